package identity

import (
	"context"
	"io"
	"net/http"
	"time"
)

const (
	// probeInterval is how long an answer about finn's health is used again.
	probeInterval = 10 * time.Second
	probeTimeout  = 2 * time.Second
)

// Health is how finn is.
type Health struct {
	Reachable bool          // it answers
	Healthy   bool          // it answers that it is well
	Latency   time.Duration // of the probe
	Circuit   string        // closed, open or half_open
}

// Health probes finn, at most once in ten seconds and for at most two. It goes
// past the circuit breaker: finn may be well again before the circuit closes,
// and a probe that fails is not a caller's failure.
func (c *Client) Health(ctx context.Context) Health {
	c.probing.Lock()
	defer c.probing.Unlock()
	if c.probed.IsZero() || time.Since(c.probed) >= probeInterval {
		c.health = c.probe(ctx)
		c.probed = time.Now()
	}
	health := c.health
	health.Circuit = c.breaker.state()
	return health
}

// probe has a time of its own, as its result is also for those who ask later.
func (c *Client) probe(ctx context.Context) Health {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer cancel()
	request, err := c.request(ctx, Request{Method: http.MethodGet, Path: []string{"health"}})
	if err != nil {
		return Health{}
	}
	start := time.Now()
	response, err := c.http.Do(request)
	if err != nil {
		return Health{}
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxError)) // so that the connection can be used again
	return Health{
		Reachable: true, Healthy: response.StatusCode >= 200 && response.StatusCode <= 299,
		Latency: time.Since(start),
	}
}
