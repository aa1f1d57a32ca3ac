package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	probeInterval = 100 * time.Millisecond
	probeTimeout  = 3 * time.Second // more than the service takes to find out that it is not ready
)

// balancer spreads requests over those targets that are ready, in turn. Like the
// balancers of clouds it asks each target for its health and tries no request
// twice: a request that met a target which has just stopped is answered with 502,
// and with 503 when no target is ready. It is safe for concurrent use.
type balancer struct {
	proxy   *httputil.ReverseProxy
	targets []*target
	turn    atomic.Uint64
}

type target struct {
	url   *url.URL
	ready atomic.Bool
}

// targetKey is the context key of the target of a request.
type targetKey struct{}

func newBalancer(urls []string) (*balancer, error) {
	b := &balancer{}
	for _, text := range urls {
		parsed, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		b.targets = append(b.targets, &target{url: parsed})
	}
	b.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			chosen := r.In.Context().Value(targetKey{}).(*target)
			r.SetURL(chosen.url)
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
			MaxIdleConnsPerHost: 64,
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, _ error) {
			if r.Context().Err() == nil {
				r.Context().Value(targetKey{}).(*target).ready.Store(false)
			}
			w.WriteHeader(http.StatusBadGateway)
		},
		ErrorLog: log.New(io.Discard, "", 0), // that answers were cut off is what the tests are about
	}
	return b, nil
}

// ServeHTTP implements [http.Handler].
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	chosen := b.next()
	if chosen == nil {
		w.Header().Set("Retry-After", strconv.Itoa(1))
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	b.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), targetKey{}, chosen)))
}

// next is the target whose turn it is, nil when none is ready.
func (b *balancer) next() *target {
	for range b.targets {
		candidate := b.targets[b.turn.Add(1)%uint64(len(b.targets))]
		if candidate.ready.Load() {
			return candidate
		}
	}
	return nil
}

// wait returns when all targets have been found ready.
func (b *balancer) wait(ctx context.Context) error {
	for _, t := range b.targets {
		for !t.ready.Load() {
			select {
			case <-time.After(probeInterval / 10):
			case <-ctx.Done():
				return fmt.Errorf("%s is not ready: %w", t.url, context.Cause(ctx))
			}
		}
	}
	return nil
}

// run asks the targets for their health until ctx ends.
func (b *balancer) run(ctx context.Context) {
	client := &http.Client{Timeout: probeTimeout, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var probing sync.WaitGroup
	for _, t := range b.targets {
		probing.Go(func() {
			for ctx.Err() == nil {
				t.ready.Store(ready(ctx, client, t.url.String()))
				select {
				case <-time.After(probeInterval):
				case <-ctx.Done():
				}
			}
		})
	}
	probing.Wait()
}
