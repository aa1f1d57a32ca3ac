package faults_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// moment is a point in the life of a transaction that writes.
type moment int

const (
	// committing: the client has sent what commits, and the server has not got it.
	committing moment = iota
	// committed: the server has committed, and the client has not heard of it.
	committed
)

// wire is where faults wait for a moment. It is safe for concurrent use.
type wire struct {
	mu      sync.Mutex
	armed   map[moment]func(*session)
	running sync.WaitGroup // what the faults do at their moment
}

// once calls do at the next such moment of any connection. What do does is over before
// anything else passes on that connection.
func (w *wire) once(m moment, do func(*session)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.armed == nil {
		w.armed = map[moment]func(*session){}
	}
	w.armed[m] = do
}

// disarm gives up waiting, and returns when nothing is being done.
func (w *wire) disarm() {
	w.mu.Lock()
	w.armed = nil
	w.mu.Unlock()
	w.running.Wait()
}

func (w *wire) reach(m moment, s *session) {
	w.mu.Lock()
	do := w.armed[m]
	delete(w.armed, m)
	if do != nil {
		w.running.Add(1)
	}
	w.mu.Unlock()
	if do != nil {
		defer w.running.Done()
		do(s)
	}
}

// session is a connection to PostgreSQL, of whose protocol (version 3.0, "Frontend/
// Backend Protocol" in its manual) it understands as much as it takes to see writes
// commit.
type session struct {
	*link
	wire *wire
	pid  atomic.Uint32 // of the server's process; 0 until it has told

	inserts map[string]bool // prepared statements that insert events
	writes  bool            // since the last Sync
	wrote   bool            // in this transaction; of the goroutine that reads the server
}

// maxMessage bounds a message of the protocol.
const maxMessage = 256 << 20

// upstream passes the client's messages on. The first has no type.
func (s *session) upstream(from io.Reader, to io.Writer) error {
	in, out := bufio.NewReaderSize(from, pieces), bufio.NewWriterSize(to, pieces)
	for first := true; ; first = false {
		message, err := readMessage(in, !first)
		if err != nil {
			return err
		}
		if !first && s.commits(message) {
			if err := out.Flush(); err != nil {
				return err
			}
			s.wire.reach(committing, s)
		}
		s.relay.wait()
		if err := send(in, out, message); err != nil {
			return err
		}
	}
}

// downstream passes the server's messages on.
func (s *session) downstream(from io.Reader, to io.Writer) error {
	in, out := bufio.NewReaderSize(from, pieces), bufio.NewWriterSize(to, pieces)
	for {
		message, err := readMessage(in, true)
		if err != nil {
			return err
		}
		if s.hasCommitted(message) {
			// Told what it inserted, the client waits to hear that it is for good.
			if err := out.Flush(); err != nil {
				return err
			}
			s.wire.reach(committed, s)
		}
		s.relay.wait()
		if err := send(in, out, message); err != nil {
			return err
		}
	}
}

// send writes a message, and flushes when no other is there to go with it.
func send(in *bufio.Reader, out *bufio.Writer, message []byte) error {
	if _, err := out.Write(message); err != nil {
		return err
	}
	if in.Buffered() > 0 {
		return nil
	}
	return out.Flush()
}

func readMessage(in *bufio.Reader, typed bool) ([]byte, error) {
	head := 4
	if typed {
		head = 5
	}
	header, err := in.Peek(head)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(header[head-4:]))
	if size < 4 || size > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	message := make([]byte, size+head-4)
	_, err = io.ReadFull(in, message)
	return message, err
}

// commits reports whether a client's message commits events or a page: COMMIT, or the
// Sync after an insertion.
func (s *session) commits(message []byte) bool {
	body := message[5:]
	switch message[0] {
	case 'P': // Parse: name, query
		name, query, _ := bytes.Cut(body, []byte{0})
		s.inserts[string(name)] = bytes.Contains(query, []byte("INSERT INTO reputation_events"))
	case 'B': // Bind: portal, name
		_, rest, _ := bytes.Cut(body, []byte{0})
		name, _, _ := bytes.Cut(rest, []byte{0})
		s.writes = s.writes || s.inserts[string(name)]
	case 'Q': // Query
		return bytes.HasPrefix(body, []byte("commit"))
	case 'S': // Sync
		writes := s.writes
		s.writes = false
		return writes
	}
	return false
}

// hasCommitted reports whether a server's message says that a transaction is over that
// wrote. It is the ReadyForQuery.
func (s *session) hasCommitted(message []byte) bool {
	body := message[5:]
	switch message[0] {
	case 'K': // BackendKeyData
		s.pid.Store(binary.BigEndian.Uint32(body))
	case 'C': // CommandComplete
		switch verb, _, _ := bytes.Cut(bytes.TrimRight(body, "\x00"), []byte(" ")); string(verb) {
		case "INSERT", "UPDATE", "DELETE":
			s.wrote = true
		case "ROLLBACK":
			s.wrote = false
		}
	case 'E': // ErrorResponse
		s.wrote = false
	case 'Z': // ReadyForQuery: I is idle, outside of a transaction
		if body[0] == 'I' {
			wrote := s.wrote
			s.wrote = false
			return wrote
		}
	}
	return false
}
