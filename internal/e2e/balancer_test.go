package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// backend is a target that says its name, and whether it is ready.
type backend struct {
	*httptest.Server
	ready atomic.Bool
}

func newBackend(t *testing.T, name string) *backend {
	t.Helper()
	b := &backend{}
	b.ready.Store(true)
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" && !b.ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "%s %s %s", name, r.Host, r.Header.Get("X-Forwarded-For"))
	}))
	t.Cleanup(b.Close)
	return b
}

// balance is the address of a balancer over backends.
func balance(t *testing.T, backends ...*backend) string {
	t.Helper()
	var urls []string
	for _, b := range backends {
		urls = append(urls, b.URL)
	}
	b, err := newBalancer(urls)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { b.run(ctx) })
	web := httptest.NewServer(b)
	t.Cleanup(func() {
		web.Close()
		cancel()
		running.Wait()
	})
	return web.URL
}

func ask(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

// settle asks until the last answers, in any order, are those.
func settle(t *testing.T, url string, want ...string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		got = nil
		for range want {
			response, text := ask(t, url)
			got = append(got, fmt.Sprintf("%d %.3s", response.StatusCode, text))
		}
		if slices.Sort(got); slices.Equal(got, want) {
			return
		}
	}
	t.Fatalf("the answers are %v, want %v", got, want)
}

// TestBalancer: requests go in turn to those that are ready, and to no other.
func TestBalancer(t *testing.T) {
	t.Parallel()
	one, two := newBackend(t, "one"), newBackend(t, "two")
	url := balance(t, one, two)
	settle(t, url, "200 one", "200 two", "200 one", "200 two")
	one.ready.Store(false)
	settle(t, url, "200 two", "200 two", "200 two")
	two.ready.Store(false)
	settle(t, url, "503 ", "503 ")
	if response, _ := ask(t, url); response.Header.Get("Retry-After") != "1" {
		t.Errorf("the headers are %v", response.Header)
	}
	one.ready.Store(true)
	settle(t, url, "200 one", "200 one")
}

// TestBalancerMeetsATargetThatStopped: the first request gets 502, and those after
// it go elsewhere.
func TestBalancerMeetsATargetThatStopped(t *testing.T) {
	t.Parallel()
	one, two := newBackend(t, "one"), newBackend(t, "two")
	b, err := newBalancer([]string{one.URL, two.URL})
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range b.targets {
		target.ready.Store(true)
	}
	one.Close()
	statuses := map[int]int{}
	for range 6 {
		answer := httptest.NewRecorder()
		b.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "http://dixie.example/", nil))
		statuses[answer.Code]++
	}
	if statuses[http.StatusBadGateway] != 1 || statuses[http.StatusOK] != 5 {
		t.Errorf("the statuses are %v", statuses)
	}
}

// TestBalancerTellsWhoAsked: targets get the name that was asked for, and the
// client's address.
func TestBalancerTellsWhoAsked(t *testing.T) {
	t.Parallel()
	url := balance(t, newBackend(t, "one"))
	settle(t, url, "200 one")
	_, text := ask(t, url)
	if want := "one " + url[len("http://"):] + " 127.0.0.1"; text != want {
		t.Errorf("the target saw %q, want %q", text, want)
	}
}
