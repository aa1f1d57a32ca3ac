package http_test

import (
	"testing"

	"dixie/http"
	"dixie/reputation"
)

// TestFinnScore: finn asks without a key, where that is allowed, and never gets a
// 404.
func TestFinnScore(t *testing.T) {
	t.Parallel()
	for public, status := range map[bool]int{true: 200, false: 401} {
		s := newService(t, openMemory, func(c *http.Config) { c.PublicReputation = public })
		s.tell(t)
		for path, known := range map[string]bool{
			"/reputation/bear-1": true, "/reputation/mibera%3A42": true, "/reputation/cub-1": false, "/reputation/nobody": false,
			"/reputation/%2e%2e": false, "/reputation/a%20b": false, "/reputation/%ff": false,
		} {
			got := s.do(t, call{path: path, key: anyone}).want(t, status)
			if status != 200 {
				continue
			}
			if (got.body != "null\n") != known {
				t.Errorf("%s: %s", path, got.body)
			}
		}
		// Other reads are not open.
		s.do(t, call{path: "/api/reputation/bear-1", key: anyone}).want(t, 401)
	}
}

// TestFinnScoreFails: that nothing can be read is not that nothing is known.
func TestFinnScoreFails(t *testing.T) {
	t.Parallel()
	s := serve(t, openMemory(t), breakStores(reputation.ErrUnavailable))
	s.get(t, "/reputation/bear-1").wantError(t, 503, "unavailable")
	s.get(t, "/reputation/bear-1?a=b").wantProblem(t, "a")
}
