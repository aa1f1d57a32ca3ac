package connlimit_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dixie/internal/connlimit"
)

func answer() []byte {
	return []byte("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfull")
}

// serve serves OK on a limited listener until the test ends.
func serve(t *testing.T, most int, refused func()) *connlimit.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limited := connlimit.New(listener, most, answer, refused)
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(limited)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return limited
}

func dial(t *testing.T, l *connlimit.Listener) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// ask sends a request and returns the status of the answer.
func ask(t *testing.T, conn net.Conn) int {
	t.Helper()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: dixie\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// TestListener: so many connections are served, idle ones included; one more is told
// that it is too many, and has a place when another one has gone.
func TestListener(t *testing.T) {
	t.Parallel()
	var told atomic.Int64
	l := serve(t, 2, func() { told.Add(1) })
	first, second := dial(t, l), dial(t, l)
	if a, b := ask(t, first), ask(t, second); a != 200 || b != 200 {
		t.Fatalf("status %d and %d below the limit", a, b)
	}
	if got := ask(t, dial(t, l)); got != 503 {
		t.Errorf("status %d above the limit", got)
	}
	if l.Open() != 2 || l.Refused() != 1 || told.Load() != 1 {
		t.Errorf("%d open, %d refused, told %d times", l.Open(), l.Refused(), told.Load())
	}
	if got := ask(t, first); got != 200 {
		t.Errorf("status %d on a connection that has its place", got)
	}
	_ = first.Close()
	await(t, "the place is not free", func() bool { return l.Open() == 1 })
	if got := ask(t, dial(t, l)); got != 200 {
		t.Errorf("status %d where there is a place again", got)
	}
}

// TestRefusedWithBody: whoever sends a body is told as well, and not reset.
func TestRefusedWithBody(t *testing.T) {
	t.Parallel()
	l := serve(t, 1, nil)
	ask(t, dial(t, l))
	conn := dial(t, l)
	body := strings.Repeat("x", 32<<10)
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: dixie\r\nContent-Length: 32768\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != 503 {
		t.Fatalf("%v, %v", response, err)
	}
	if text, err := io.ReadAll(response.Body); err != nil || string(text) != "full" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestRefusedClient: the client of the standard library gets the answer, also when it is
// slow to ask. It takes none that comes before.
func TestRefusedClient(t *testing.T) {
	t.Parallel()
	l := serve(t, 1, nil)
	ask(t, dial(t, l))
	slow := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		time.Sleep(5 * time.Millisecond)
		return conn, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: slow}}
	for range 100 {
		response, err := client.Get("http://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != 503 || string(text) != "full" {
			t.Fatalf("status %d, %q, %v", response.StatusCode, text, err)
		}
	}
}

// TestFlood: those who are refused and do not go take no more than a second, nor
// does the end of the listener wait longer for them.
func TestFlood(t *testing.T) {
	t.Parallel()
	l := serve(t, 1, nil)
	ask(t, dial(t, l))
	const flood = 100
	var ended sync.WaitGroup
	for range flood {
		conn := dial(t, l)
		ended.Go(func() { _, _ = io.Copy(io.Discard, conn) }) // sends nothing, and does not close
	}
	ended.Wait()
	await(t, "not all were refused", func() bool { return l.Refused() == flood })
	if l.Open() != 1 {
		t.Errorf("%d open", l.Open())
	}
	dial(t, l)
	await(t, "it was not refused", func() bool { return l.Refused() == flood+1 })
	began := time.Now()
	if err := l.Close(); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("closed after %s: %v", time.Since(began), err)
	}
}
