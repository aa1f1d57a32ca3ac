package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	apiKey = "dxk_key_of_the_fault_harness"

	// requestPatience is longer than any answer may take: appends give up after 30 s,
	// and what waits for a connection before that does not wait longer.
	requestPatience = 75 * time.Second

	retryPause = 50 * time.Millisecond
)

// answer is what a client heard. Without a status it heard nothing, and does not know
// what became of its request.
type answer struct {
	status   int
	code     string // of an error
	position int64  // of the header; 0 when there is none
	body     []byte
	err      error
}

// client sends requests to the servers of a world. It is for one goroutine.
type client struct {
	w      *world
	random *rand.Rand
	author *author
	http   *http.Client
	seen   map[string]int64 // the highest position by what was asked
}

// newHTTPClient has connections of its own, so that clients do not share the fate of one.
func newHTTPClient() *http.Client {
	return &http.Client{
		Timeout: requestPatience,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 4,
		},
	}
}

// do sends a request to a server and judges the answer.
func (c *client) do(ctx context.Context, s *server, method, path, contentType, body string) answer {
	request, err := http.NewRequestWithContext(ctx, method, s.base()+path, strings.NewReader(body))
	if err != nil {
		return answer{err: err} // the server has never been up
	}
	request.Header.Set("Authorization", "Bearer "+apiKey)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	pauses, start := s.pauses.Load(), time.Now()
	a := exchange(c.http, request)
	c.w.count(method, a)
	if problem := a.problem(); problem != "" {
		c.w.errorf("%s %s of %s: %s: %s", method, path, s.name, problem, a.body)
	}
	var timeout net.Error
	if errors.As(a.err, &timeout) && timeout.Timeout() && time.Since(start) >= requestPatience && pauses == s.pauses.Load() && pauses%2 == 0 {
		c.w.errorf("%s %s of %s: no answer within %s", method, path, s.name, requestPatience)
	}
	return a
}

func exchange(client *http.Client, request *http.Request) answer {
	response, err := client.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err != nil {
		return answer{err: err} // broken off in the middle is no answer
	}
	a := answer{status: response.StatusCode, body: body}
	a.position, _ = strconv.ParseInt(response.Header.Get("X-Reputation-Position"), 10, 64)
	if a.status >= 400 {
		var told struct{ Error string }
		_ = json.Unmarshal(body, &told)
		a.code = told.Error
	}
	return a
}

// documented are the errors of the service that say: not now, try again.
var documented = map[string]int{
	"unavailable":        http.StatusServiceUnavailable,
	"projection_behind":  http.StatusServiceUnavailable,
	"too_many_streams":   http.StatusServiceUnavailable,
	"too_many_histories": http.StatusServiceUnavailable,
	"history_timeout":    http.StatusServiceUnavailable,
}

// problem is what is wrong with an answer, whatever was asked.
func (a answer) problem() string {
	if a.status < 500 {
		return ""
	}
	if documented[a.code] == a.status {
		return ""
	}
	return "status " + strconv.Itoa(a.status)
}

// ok reports whether the request was served.
func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// any is one of the servers.
func (c *client) any() *server { return c.w.servers[c.random.IntN(len(c.w.servers))] }

// pause waits up to most, and not at all when the clients are to end.
func (c *client) pause(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(time.Duration(c.random.Int64N(int64(most))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// until sends a request to one server after the other until one has an answer that
// settles it: a client that must know. It gives up only when the world does.
func (c *client) until(send func(s *server) (settled bool)) {
	for !c.w.over() {
		if send(c.any()) {
			return
		}
		time.Sleep(retryPause)
	}
}
