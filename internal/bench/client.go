package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long a request may take: the longest is a bulk import.
const patience = 10 * time.Minute

// wire is a connection that stays open, for one request at a time. It knows as much of
// HTTP as the servers that are measured use: net/http's client takes more of the
// processors than they do, which it would share with them.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte // of the last answer; valid until the next
}

func dial(ctx context.Context, base string) (*wire, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, in: bufio.NewReaderSize(conn, 16<<10)}, nil
}

func (w *wire) close() { _ = w.conn.Close() }

// do sends a request, which is its bytes, and checks the status of the answer.
func (w *wire) do(request []byte, want int) error {
	if err := w.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := w.conn.Write(request); err != nil {
		return err
	}
	return w.answer(want)
}

// statusError is an answer with another status than the wanted one.
type statusError struct {
	status, want int
	body         string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("status %d, want %d: %s", e.status, e.want, e.body)
}

// answer reads an answer.
func (w *wire) answer(want int) error {
	status, length, err := w.head()
	if err != nil {
		return fmt.Errorf("read the head of an answer: %w", err)
	}
	w.body = w.body[:0]
	switch {
	case length >= 0:
		w.body = append(w.body, make([]byte, length)...)
		_, err = io.ReadFull(w.in, w.body)
	default:
		err = w.chunks()
	}
	if err == nil && status != want {
		err = &statusError{status: status, want: want, body: string(w.body[:min(len(w.body), 300)])}
	}
	return err
}

// head reads the status and the length of the body, which is negative when it comes in
// chunks.
func (w *wire) head() (status, length int, err error) {
	line, err := w.in.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, 0, fmt.Errorf("status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, fmt.Errorf("status line %q", line)
	}
	length, known := 0, false
	for {
		line, err := w.in.ReadSlice('\n')
		if err != nil {
			return 0, 0, err
		}
		name, value, more := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": "))
		switch {
		case !more && known:
			return status, length, nil
		case !more:
			return 0, 0, errors.New("an answer of unknown length")
		case string(name) == "Content-Length":
			length, err = strconv.Atoi(string(value))
			known = err == nil
		case string(name) == "Transfer-Encoding":
			length, known = -1, true
		}
	}
}

func (w *wire) chunks() error {
	body := bytes.NewBuffer(w.body)
	if _, err := body.ReadFrom(httputil.NewChunkedReader(w.in)); err != nil {
		return err
	}
	w.body = body.Bytes()
	_, err := w.in.ReadSlice('\n') // ends the trailer, which is empty
	return err
}

// get is the bytes of a request for a path.
func get(path string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n\r\n", path, benchKey)
}

// post is the bytes of a request with a body.
func post(path, contentType string, body []byte) []byte {
	return append(fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n",
		path, benchKey, contentType, len(body)), body...)
}

// loaded is what a load took.
type loaded struct {
	seconds   float64
	latencies []time.Duration // of each request
}

// load sends requests over so many connections, each with one request at a time, and
// fails when one is not answered with the wanted status.
func load(ctx context.Context, base string, connections, want int, requests [][]byte) (loaded, error) {
	wires := make([]*wire, connections)
	for i := range wires {
		w, err := dial(ctx, base)
		if err != nil {
			return loaded{}, err
		}
		defer w.close()
		wires[i] = w
	}
	l := loaded{latencies: make([]time.Duration, len(requests))}
	var next atomic.Int64
	var group sync.WaitGroup
	errs := make([]error, connections)
	start := time.Now()
	for i, w := range wires {
		group.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(requests) {
					return
				}
				sent := time.Now()
				if errs[i] = w.do(requests[n], want); errs[i] != nil {
					return
				}
				l.latencies[n] = time.Since(sent)
			}
			errs[i] = ctx.Err()
		})
	}
	group.Wait()
	l.seconds = time.Since(start).Seconds()
	return l, errors.Join(errs...)
}
