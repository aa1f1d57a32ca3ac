package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

const (
	maxAnswer = 8 << 20
	// A client tries a request so often before it takes it for failed. In between it
	// waits as it is asked to by Retry-After, though not longer than maxPause, and at
	// least minPause.
	attempts = 20
	minPause = 50 * time.Millisecond
	maxPause = time.Second
)

// client calls the API as one caller.
type client struct {
	t      testing.TB
	url    string
	header http.Header
	http   *http.Client
	// retries counts the requests that were tried again; nil is a client that never
	// tries again.
	retries *atomic.Int64
}

// anyone is a client without a key.
func anyone(t testing.TB, url string) *client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return &client{t: t, url: url, http: &http.Client{Transport: transport, Timeout: patience}}
}

// with is the client with another header.
func (c *client) with(name, value string) *client {
	other := *c
	other.header = c.header.Clone()
	if other.header == nil {
		other.header = http.Header{}
	}
	other.header.Set(name, value)
	return &other
}

func (c *client) bearer(token string) *client { return c.with("Authorization", "Bearer "+token) }

// at is the client at another address.
func (c *client) at(url string) *client {
	other := *c
	other.url = url
	return &other
}

// patient is the client that tries again, and counts that.
func (c *client) patient(retries *atomic.Int64) *client {
	other := *c
	other.retries = retries
	return &other
}

// answer is what came back.
type answer struct {
	t      testing.TB
	asked  string
	Status int
	Header http.Header
	Body   []byte
}

// post sends a value as JSON.
func (c *client) post(path string, body any) *answer {
	c.t.Helper()
	return c.call(http.MethodPost, path, body)
}

func (c *client) get(path string) *answer {
	c.t.Helper()
	return c.call(http.MethodGet, path, nil)
}

// call fails the test when there is no answer.
func (c *client) call(method, path string, body any) *answer {
	c.t.Helper()
	a, err := c.try(c.t.Context(), method, path, body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// try sends a request, again and again if the client is patient: it may meet a
// replica that stops, and each request that the tests send may be sent twice.
func (c *client) try(ctx context.Context, method, path string, body any) (*answer, error) {
	for attempt := 1; ; attempt++ {
		a, err := c.once(ctx, method, path, body)
		again := err != nil || a.Status == http.StatusBadGateway || a.Status == http.StatusServiceUnavailable || a.Status == http.StatusGatewayTimeout
		if !again || c.retries == nil || attempt == attempts || ctx.Err() != nil {
			return a, err
		}
		c.retries.Add(1)
		pause := minPause
		if err == nil {
			pause = a.retryAfter()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (a *answer) retryAfter() time.Duration {
	seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if err != nil {
		return minPause
	}
	return min(max(time.Duration(seconds)*time.Second, minPause), maxPause)
}

func (c *client) once(ctx context.Context, method, path string, body any) (*answer, error) {
	request, err := c.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return &answer{t: c.t, asked: method + " " + c.url + path, Status: response.StatusCode, Header: response.Header, Body: text}, err
}

// request is a request of this caller's. A body of nil is none.
func (c *client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, reader)
	if err != nil {
		return nil, err
	}
	maps.Copy(request.Header, c.header)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, nil
}

// want fails the test when the status is another.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("%s: status %d, want %d: %s", a.asked, a.Status, status, a.Body)
	}
	return a
}

// refused fails the test unless the answer is an error with this status and code.
func (a *answer) refused(status int, code string) *answer {
	a.t.Helper()
	var body struct {
		Error string `json:"error"`
	}
	a.want(status).into(&body)
	if body.Error != code {
		a.t.Fatalf("%s: error %q, want %q: %s", a.asked, body.Error, code, a.Body)
	}
	return a
}

// into decodes the body.
func (a *answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal(a.Body, v); err != nil {
		a.t.Fatalf("%s: %v: %s", a.asked, err, a.Body)
	}
}

// position is the position that a read of a projection contains.
func (a *answer) position() int64 {
	a.t.Helper()
	position, err := strconv.ParseInt(a.Header.Get("X-Reputation-Position"), 10, 64)
	if err != nil {
		a.t.Fatalf("%s: X-Reputation-Position: %v", a.asked, err)
	}
	return position
}
