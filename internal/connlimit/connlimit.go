// Package connlimit bounds how many connections a server has. It answers those that
// are too many instead of letting them wait, as golang.org/x/net/netutil does: whoever
// asks learns at once that another replica has to be asked, and operators see it.
package connlimit

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxAnswers is how many connections may be answered at once that were refused. Of
	// more, the rest is closed without an answer.
	maxAnswers = 32
	// answerTime bounds the answer with all that goes with it, and maxUnread what is
	// read of a request so that the answer arrives: a connection that is closed with
	// unread bytes is reset.
	answerTime  = time.Second
	requestTime = answerTime / 4 // of that, to begin a request
	maxUnread   = 64 << 10
)

// Listener is a listener of so many connections at once. It is safe for concurrent use.
type Listener struct {
	net.Listener
	most    int64
	answer  func() []byte
	notify  func()
	open    atomic.Int64
	refused atomic.Int64

	answering chan struct{} // a place for each answer
	answers   sync.WaitGroup
}

// New limits a listener to most open connections, which has to be above 0. Each
// further one is sent an answer and closed, and refused, which may be nil, is told: by
// one goroutine, before the next connection is accepted. answer is called by several
// goroutines at once.
func New(listener net.Listener, most int, answer func() []byte, refused func()) *Listener {
	if refused == nil {
		refused = func() {}
	}
	return &Listener{
		Listener: listener, most: int64(most), answer: answer, notify: refused,
		answering: make(chan struct{}, maxAnswers),
	}
}

// Open is how many accepted connections are open.
func (l *Listener) Open() int64 { return l.open.Load() }

// Refused is how many connections were too many since the start.
func (l *Listener) Refused() int64 { return l.refused.Load() }

// Accept returns the next connection that is not too many.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			return &counted{Conn: conn, closed: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		l.refuse(conn)
	}
}

// Close stops listening and waits for the answers to those that were refused, at
// most a second.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	l.answers.Wait()
	return err
}

// refuse answers and closes a connection in the background.
func (l *Listener) refuse(conn net.Conn) {
	l.refused.Add(1)
	l.notify()
	select {
	case l.answering <- struct{}{}:
		l.answers.Go(func() {
			l.turnAway(conn)
			<-l.answering
		})
	default:
		_ = conn.Close()
	}
}

// turnAway waits for the beginning of a request, as clients do not take an answer that
// comes before they have asked for one; writes the answer, and waits until it was read.
// It gives up when the time for it is over.
func (l *Listener) turnAway(conn net.Conn) {
	defer conn.Close()
	now := time.Now()
	_ = conn.SetDeadline(now.Add(answerTime))
	_ = conn.SetReadDeadline(now.Add(requestTime))
	_, _ = conn.Read(make([]byte, 1)) // who says nothing is told as well
	_ = conn.SetReadDeadline(now.Add(answerTime))
	if _, err := conn.Write(l.answer()); err != nil {
		return
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, maxUnread)
	}
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	closed func()
}

func (c *counted) Close() error {
	defer c.closed()
	return c.Conn.Close()
}
