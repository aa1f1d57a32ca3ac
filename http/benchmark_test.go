package http_test

import (
	"io"
	"log/slog"
	nethttp "net/http"
	"net/http/httptest"
	"testing"

	"dixie/http"
)

// BenchmarkChain is what a request costs on its way to a handler and back, by what the
// log tells of it.
func BenchmarkChain(b *testing.B) {
	for _, level := range []slog.Level{slog.LevelWarn, slog.LevelInfo} {
		b.Run("log "+level.String(), func(b *testing.B) {
			s := newService(b, openMemory, func(c *http.Config) {
				c.Logger = slog.New(slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{Level: level}))
				c.Origins, c.RateLimits.Keys = []string{"https://dixie.example"}, 1<<40
			})
			s.server.ProbeAs("read", "/chain", func(nethttp.ResponseWriter, *nethttp.Request) {})
			request := call{path: "/chain"}.request(b, "http://localhost")
			request.RemoteAddr = "192.0.2.1:1234"
			b.ReportAllocs()
			for b.Loop() {
				answer := httptest.NewRecorder()
				s.server.ServeHTTP(answer, request)
				if answer.Code != nethttp.StatusOK {
					b.Fatal(answer.Code, answer.Body)
				}
			}
		})
	}
}

// BenchmarkServe is what a request costs beside the database and the network: the
// service is in memory, and the answer is thrown away.
func BenchmarkServe(b *testing.B) {
	s := newService(b, openMemory)
	s.tell(b)
	s.do(b, appendTo("bear-1", signal(1, 0.5))).want(b, nethttp.StatusCreated)
	s.settle(b)
	for _, request := range []struct {
		name   string
		call   call
		status int
	}{
		{"query", call{path: "/api/reputation/query?routingKey=nft:bear-1"}, nethttp.StatusOK},
		{"get", call{path: "/api/reputation/bear-1"}, nethttp.StatusOK},
		{"duplicate", appendTo("bear-1", signal(1, 0.5)), nethttp.StatusOK},
	} {
		b.Run(request.name, func(b *testing.B) {
			handler := s.web.Config.Handler
			b.ReportAllocs()
			for b.Loop() {
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, request.call.request(b, "http://localhost"))
				if answer.Code != request.status {
					b.Fatal(answer.Code, answer.Body)
				}
			}
		})
	}
}
