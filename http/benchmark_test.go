package http_test

import (
	nethttp "net/http"
	"net/http/httptest"
	"testing"
)

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
