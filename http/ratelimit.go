package http

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// RateLimits are how many requests a minute are answered. 0 means any number.
type RateLimits struct {
	Clients int // of a wallet, or of an address when nobody is known to ask
	Keys    int // of the holder of an API key, or of the administrators' key
	SignIn  int // of an address, to the routes that sign in
}

// maxBuckets is how many callers a limiter remembers. Of more, those whose last
// request is longest ago start anew.
const maxBuckets = 10_000

// limiter limits each caller by a token bucket: a minute's quota at once, which
// fills again evenly. So it never refuses what a count of the last minute would
// let through.
type limiter struct {
	name    string   // of the policy, quoted, for the RateLimit headers
	policy  []string // the value of RateLimit-Policy
	quota   int
	buckets *lru.Cache[string, *rate.Limiter]
}

// newLimiter returns nil when there is no limit.
func newLimiter(policy string, quota int) *limiter {
	if quota <= 0 {
		return nil
	}
	buckets, err := lru.New[string, *rate.Limiter](maxBuckets)
	if err != nil {
		panic(err) // only for a size below 1
	}
	name := `"` + policy + `"`
	return &limiter{name: name, policy: []string{fmt.Sprintf("%s;q=%d;w=60", name, quota)}, quota: quota, buckets: buckets}
}

// perSecond is how many tokens flow into a bucket.
func (l *limiter) perSecond() float64 { return float64(l.quota) / 60 }

func (l *limiter) bucket(caller string) *rate.Limiter {
	if bucket, ok := l.buckets.Get(caller); ok {
		return bucket
	}
	fresh := rate.NewLimiter(rate.Limit(l.perSecond()), l.quota)
	if bucket, ok, _ := l.buckets.PeekOrAdd(caller, fresh); ok {
		return bucket
	}
	return fresh
}

// take counts a request. remaining is how many more could follow at once, next
// when there will be one more.
func (l *limiter) take(caller string, now time.Time) (ok bool, remaining int, next time.Duration) {
	bucket := l.bucket(caller)
	ok = bucket.AllowN(now, 1)
	tokens := bucket.TokensAt(now)
	remaining = max(0, int(tokens))
	missing := float64(remaining+1) - tokens
	return ok, remaining, time.Duration(missing / l.perSecond() * float64(time.Second))
}

// limiters are one for each kind of caller, nil where there is no limit.
type limiters struct {
	clients, keys, signIn *limiter
}

func newLimiters(limits RateLimits) limiters {
	return limiters{
		clients: newLimiter("requests", limits.Clients),
		keys:    newLimiter("requests", limits.Keys),
		signIn:  newLimiter("sign-in", limits.SignIn),
	}
}

// of is the limiter for a request, and whom it counts the request for.
func (l limiters) of(info *requestInfo) (*limiter, string) {
	switch {
	case info.route.access == probe:
		return nil, ""
	case info.route.access == signIn:
		return l.signIn, network(info.client)
	case info.identity != nil:
		return l.clients, network(info.client)
	case info.caller.Wallet != "":
		return l.clients, info.caller.Wallet
	}
	return l.keys, info.caller.Name
}

// network is the address of a client. One household has all addresses of an IPv6
// network of 64 bits (RFC 6177), so these count together.
func network(address netip.Addr) string {
	if address.Is6() {
		if prefix, err := address.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return clientText(address)
}

// The RateLimit headers, as [http.Header] spells them.
const (
	policyHeader = "Ratelimit-Policy"
	rateHeader   = "Ratelimit"
)

// rateError says that a caller asks too often.
type rateError struct {
	wait time.Duration // until the next request is answered
}

func (e *rateError) Error() string { return fmt.Sprintf("too many requests, the next in %s", e.wait) }

// limitRate refuses callers that ask too often, and tells all how much is left
// (draft-ietf-httpapi-ratelimit-headers-10).
func (s *Server) limitRate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limiter, caller := s.limiters.of(infoFrom(r.Context()))
		if limiter == nil {
			next.ServeHTTP(w, r)
			return
		}
		ok, remaining, wait := limiter.take(caller, s.Now())
		h := w.Header()
		h[policyHeader] = limiter.policy
		h.Set(rateHeader, limiter.name+";r="+strconv.Itoa(remaining)+";t="+strconv.Itoa(seconds(wait)))
		if !ok {
			s.writeError(w, r, &rateError{wait})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// seconds rounds up, so that nobody comes back too early.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
