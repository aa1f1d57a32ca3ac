package http_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dixie/http"
	"dixie/reputation"
)

// TestAllIsLogged: whoever answers a request on its way, the log has one line about
// it with the status that the caller saw.
func TestAllIsLogged(t *testing.T) {
	t.Parallel()
	const ours = "https://dixie.example"
	preflight := call{method: "OPTIONS", path: "/api/reputation", key: anyone}.
		with("Origin", ours).with("Access-Control-Request-Method", "GET")
	large := postJSON("/api/admin/allowlist", strings.Repeat(" ", 100<<10+1))
	for name, tt := range map[string]struct {
		call   call
		status int
	}{
		"preflight":   {preflight, 204},
		"no route":    {call{path: "/nowhere", key: anyone}, 404},
		"no method":   {call{path: "/livez", method: "PUT", key: anyone}, 405},
		"no token":    {call{path: "/api/reputation", key: anyone}, 401},
		"not allowed": {call{path: "/api/reputation"}.by(stranger), 403},
		"too large":   {admin(large), 413},
		"panic":       {call{path: "/panic", key: anyone}, 500},
		"too often":   {call{path: "/often", key: anyone}, 429},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log journal
			s := newGateway(t, log.keep, func(c *http.Config) { c.Origins, c.RateLimits.Clients = []string{ours}, 1 })
			s.server.Probe("/panic", func(nethttp.ResponseWriter, *nethttp.Request) { panic("a test") })
			if tt.status == 429 {
				first := httptest.NewRequest(nethttp.MethodGet, tt.call.path, nil)
				first.RemoteAddr = "127.0.0.1:1"
				s.server.ServeHTTP(httptest.NewRecorder(), first)
				log.Take()
			}
			s.do(t, tt.call.with("X-Request-Id", "the-id")).want(t, tt.status)
			line := log.request(t)
			for _, want := range []string{fmt.Sprintf(`"status":%d`, tt.status), `"request_id":"the-id"`, `"client":"127.0.0.1"`} {
				if !strings.Contains(line, want) {
					t.Errorf("no %s in %s", want, line)
				}
			}
		})
	}
}

// TestTracing: what watches requests from outside knows their id and their route,
// also of those that are refused, and sees the answer to a panic.
func TestTracing(t *testing.T) {
	t.Parallel()
	type seen struct {
		route, id string
		status    int
	}
	var traced seen
	s := newGateway(t, func(c *http.Config) {
		c.Tracing = func(next nethttp.Handler) nethttp.Handler {
			return nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
				rec := httptest.NewRecorder()
				next.ServeHTTP(rec, r)
				traced = seen{http.Route(r.Context()), w.Header().Get("X-Request-Id"), rec.Code}
				maps.Copy(w.Header(), rec.Header())
				w.WriteHeader(rec.Code)
				_, _ = w.Write(rec.Body.Bytes())
			})
		}
	})
	s.server.Probe("/panic/{what}", func(nethttp.ResponseWriter, *nethttp.Request) { panic("a test") })
	for _, tt := range []struct {
		call call
		want seen
	}{
		{call{path: "/api/reputation/bear%2d1"}, seen{"/api/reputation/{nftId}", "the-id", 404}},
		{call{path: "/api/reputation/bear-1", key: anyone}, seen{"/api/reputation/{nftId}", "the-id", 401}},
		{call{path: "/panic/1", key: anyone}, seen{"/panic/{what}", "the-id", 500}},
		{call{path: "/nowhere", key: anyone}, seen{"", "the-id", 404}},
		{call{path: "/livez", method: "PUT", key: anyone}, seen{"", "the-id", 405}},
	} {
		s.do(t, tt.call.with("X-Request-Id", "the-id"))
		if traced != tt.want {
			t.Errorf("%s: saw %+v, want %+v", tt.call.path, traced, tt.want)
		}
	}
}

// TestBodyLimit: a route that says nothing else reads 100 KiB, however the length of
// a body is told.
func TestBodyLimit(t *testing.T) {
	t.Parallel()
	const most = 102_400
	s := newGateway(t)
	entry := `{"type":"wallet","value":"` + stranger + `"}`
	full := entry + strings.Repeat(" ", most-len(entry))
	for _, tt := range []struct {
		name, body string
		status     int
	}{
		{"at the limit", full, 201},
		{"over the limit", full + " ", 413},
	} {
		for _, chunked := range []bool{false, true} {
			c := admin(postJSON("/api/admin/allowlist", tt.body))
			if chunked {
				c.reader = io.MultiReader(strings.NewReader(tt.body)) // whose length nobody knows
			}
			if got := s.do(t, c); got.status != tt.status {
				t.Errorf("%s, chunked %t: status %d, want %d: %s", tt.name, chunked, got.status, tt.status, got.body)
			}
			s.do(t, admin(call{method: "DELETE", path: "/api/admin/allowlist/" + stranger}))
		}
	}
}

// TestNoBodyIsRead: whoever may not use a route is refused before a byte of the
// body is read.
func TestNoBodyIsRead(t *testing.T) {
	t.Parallel()
	server := http.NewServer(openMemory(t).config(t))
	for _, path := range []string{"/api/reputation/bear-1/events", "/api/reputation/events", "/api/chat", "/api/admin/allowlist"} {
		request := httptest.NewRequest(nethttp.MethodPost, path, unreadable{t})
		answer := httptest.NewRecorder()
		if server.ServeHTTP(answer, request); answer.Code != 401 {
			t.Errorf("%s: %d", path, answer.Code)
		}
	}
}

type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body is read")
	return 0, io.EOF
}

// TestInjection: what a caller writes into headers and paths comes back in no
// header, and is on one line of the log.
func TestInjection(t *testing.T) {
	t.Parallel()
	for _, header := range []string{
		"X-Request-Id: a%0d%0aSet-Cookie: b=c",
		"X-Request-Id: a\r Set-Cookie: b=c",
		"X-Request-Id: a\n Set-Cookie: b=c", // a continued line
		"X-Request-Id: a\x00b",
		"X-Request-Id: \u2028{}",
		"Origin: https://dixie.example\x0b.evil.example",
		"X-Forwarded-For: 1.1.1.1\",\"status\":200",
		"Authorization: Bearer a\",\"access\":\"allow",
		"X-Admin-Key: \u0661\x7f",
	} {
		var log journal
		s := newGateway(t, log.keep, func(c *http.Config) {
			c.Origins, c.TrustedProxies = []string{"https://dixie.example"}, prefixes(t, "127.0.0.0/8")
		})
		response := s.write(t, "GET /api/reputation/%0d%0aSet-Cookie:%20b HTTP/1.1\r\nHost: dixie\r\n"+header+"\r\n\r\n")
		for name, values := range response.Header {
			if text := name + ": " + strings.Join(values, ","); strings.Contains(text, "Cookie") || strings.Contains(text, "evil") {
				t.Errorf("%q comes back as %q", header, text)
			}
		}
		if response.StatusCode == 400 {
			continue // refused before it was a request
		}
		line := log.request(t)
		for _, twice := range []string{`"status":`, `"access":`} {
			if strings.Count(line, twice) != 1 {
				t.Errorf("%q is written as %s", header, line)
			}
		}
	}
}

// write sends bytes and reads the answer.
func (s *service) write(t testing.TB, request string) *nethttp.Response {
	t.Helper()
	conn, err := net.Dial("tcp", s.web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := nethttp.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// TestWalletFromOutside: an API key has no wallet, whatever its holder says.
func TestWalletFromOutside(t *testing.T) {
	t.Parallel()
	s := newGateway(t, func(c *http.Config) { c.PaymentHeaders = true })
	for _, key := range []string{"read", anyone} {
		got := s.do(t, call{path: "/api/reputation", key: key}.with("X-Wallet-Address", member))
		if wallet := got.header.Get("X-Payment-Wallet"); wallet != "" {
			t.Errorf("%s is taken for %s", key, wallet)
		}
	}
	got := s.do(t, call{path: "/api/reputation"}.by(member).with("X-Wallet-Address", stranger))
	if wallet := got.header.Get("X-Payment-Wallet"); wallet != member {
		t.Errorf("the wallet %s is taken for %s", member, wallet)
	}
}

// TestSlowBody: a body that comes too slowly is given up, and its answer says so.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		config := openMemory(t).config(t)
		config.Log = failingLog{}
		here, there := net.Pipe()
		web := &nethttp.Server{Handler: http.NewServer(config), ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute}
		var running sync.WaitGroup
		running.Go(func() { _ = web.Serve(&single{conn: there, closed: make(chan struct{})}) })
		running.Go(func() {
			_, err := io.WriteString(here, rawPost("/api/reputation/a/events", "application/json", "Content-Length: 1000", ""))
			for err == nil {
				time.Sleep(time.Second)
				_, err = io.WriteString(here, " ")
			}
		})
		start := time.Now()
		response, err := nethttp.ReadResponse(bufio.NewReader(here), nil)
		if err != nil {
			t.Error(err)
		} else if took := time.Since(start); response.StatusCode != 408 || !response.Close || took > 61*time.Second {
			t.Errorf("status %d after %s", response.StatusCode, took)
		}
		_, _ = here.Close(), web.Close()
		running.Wait()
	})
}

// failingLog must not be asked.
type failingLog struct{ reputation.Log }

// single is a listener on one connection.
type single struct {
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

func (s *single) Accept() (net.Conn, error) {
	if conn := s.conn; conn != nil {
		s.conn = nil
		return conn, nil
	}
	<-s.closed
	return nil, net.ErrClosed
}

func (s *single) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *single) Addr() net.Addr { return &net.UnixAddr{} }
