package main

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	nethttp "net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestSlowClients: whoever is slow is given up after a time, and told so where there
// is a request to answer.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		begin  string        // what the client sends at once; then it sends a byte a second
		status int           // 0: the connection is closed without an answer
		after  time.Duration // at most
	}{
		"headers":     {"GET / HTTP/1.1\r\nHost: dixie\r\nX-Slow: ", 0, 10 * time.Second},
		"body":        {"POST / HTTP/1.1\r\nHost: dixie\r\nContent-Length: 1000\r\n\r\n", 408, time.Minute},
		"big headers": {"GET / HTTP/1.1\r\nHost: dixie\r\nX-Big: " + strings.Repeat("x", maxHeader+8<<10) + "\r\n\r\n", 431, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				web := newWebServer(nethttp.HandlerFunc(readAll), usual, slog.New(slog.DiscardHandler))
				var running sync.WaitGroup
				running.Go(func() { _ = web.Serve(&single{conn: there, closed: make(chan struct{})}) })
				running.Go(func() {
					_, err := io.WriteString(here, tt.begin)
					for err == nil {
						time.Sleep(time.Second)
						_, err = io.WriteString(here, "x")
					}
				})
				start := time.Now()
				response, err := nethttp.ReadResponse(bufio.NewReader(here), nil)
				took := time.Since(start)
				if (err != nil) != (tt.status == 0) || err == nil && response.StatusCode != tt.status || took > tt.after {
					t.Errorf("%v, %v after %s", response, err, took)
				}
				_, _ = here.Close(), web.Close()
				running.Wait()
				time.Sleep(time.Minute) // the server lingers on a connection that it has closed
			})
		})
	}
}

func readAll(w nethttp.ResponseWriter, r *nethttp.Request) {
	if _, err := io.ReadAll(r.Body); err != nil {
		w.WriteHeader(nethttp.StatusRequestTimeout)
	}
}

// single is a listener on one connection.
type single struct {
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

// Accept returns the connection, and then waits.
func (s *single) Accept() (net.Conn, error) {
	if conn := s.conn; conn != nil {
		s.conn = nil
		return conn, nil
	}
	<-s.closed
	return nil, net.ErrClosed
}

// Close ends the wait.
func (s *single) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr is of no use.
func (s *single) Addr() net.Addr { return &net.UnixAddr{} }
