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
	"time"
)

// hasty are timeouts that a test can wait for.
var hasty = timeouts{header: 100 * time.Millisecond, body: 500 * time.Millisecond, answer: 1500 * time.Millisecond, idle: time.Second}

// TestTimeouts: on a network, whoever is slow in any way loses the connection. That
// the usual times are kept is seen by TestSlowClients.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := newWebServer(nethttp.HandlerFunc(echo), hasty, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = web.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = web.Close()
		<-done
	})
	const whole = "GET / HTTP/1.1\r\nHost: dixie\r\n\r\n"
	for name, tt := range map[string]struct {
		begin  string // what the client sends at once
		more   string // and again and again
		silent bool   // it reads nothing
		status int    // 0: no answer
		most   time.Duration
	}{
		"slow header":  {begin: "GET / HTTP/1.1\r\nHost: dixie\r\nX-Slow: ", more: "x", most: hasty.header},
		"nothing sent": {most: hasty.header},
		"slow body":    {begin: "POST / HTTP/1.1\r\nHost: dixie\r\nContent-Length: 1000\r\n\r\n", more: "x", status: 408, most: hasty.body},
		"slow chunks":  {begin: "POST / HTTP/1.1\r\nHost: dixie\r\nTransfer-Encoding: chunked\r\n\r\n", more: "1\r\nx\r\n", status: 408, most: hasty.body},
		"slow reader":  {begin: "GET /much HTTP/1.1\r\nHost: dixie\r\n\r\n", silent: true, most: hasty.answer},
		"idle":         {begin: whole, status: 200, most: hasty.idle},
		"big header":   {begin: "GET / HTTP/1.1\r\nHost: dixie\r\nX-Big: " + strings.Repeat("x", maxHeader+8<<10) + "\r\n\r\n", status: 431, most: hasty.header},
		"many headers": {begin: "GET / HTTP/1.1\r\nHost: dixie\r\n" + strings.Repeat("X-Many: x\r\n", 8<<10) + "\r\n", status: 431, most: hasty.header},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, _ = io.WriteString(conn, tt.begin) // it may be refused before its end
			var sending sync.WaitGroup
			defer sending.Wait()
			defer conn.Close()
			if tt.more != "" {
				sending.Go(func() {
					for err := error(nil); err == nil; _, err = io.WriteString(conn, tt.more) {
						time.Sleep(20 * time.Millisecond)
					}
				})
			}
			if tt.silent {
				time.Sleep(2 * tt.most)
				if read, err := io.Copy(io.Discard, conn); err == nil && read >= much {
					t.Errorf("it read all %d bytes", read)
				}
				return
			}
			_ = conn.SetReadDeadline(began.Add(20 * time.Second))
			in := bufio.NewReader(conn)
			status := 0
			if response, err := nethttp.ReadResponse(in, nil); err == nil {
				status = response.StatusCode
			}
			_, err = io.Copy(io.Discard, in)
			if timeout, ok := err.(net.Error); status != tt.status || ok && timeout.Timeout() {
				t.Errorf("status %d, then %v", status, err)
			}
			if took := time.Since(began); took > tt.most+4*time.Second {
				t.Errorf("the connection lasted %s", took)
			}
		})
	}
}

// much is more than the buffers of a connection hold.
const much = 64 << 20

// echo reads the body; below /much it answers with very much.
func echo(w nethttp.ResponseWriter, r *nethttp.Request) {
	if r.URL.Path != "/much" {
		readAll(w, r)
		return
	}
	for piece, left := make([]byte, 1<<20), much; left > 0; left -= len(piece) {
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}
