package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
)

// errTimeout ends a call that took too long.
var errTimeout = errors.New("timeout")

// call is one request with its answer, of which it is the body. It tells the
// circuit breaker once what came of it.
type call struct {
	caller context.Context // of whoever asks
	ctx    context.Context // of the request; ends with the caller's, or by the timer
	cancel context.CancelCauseFunc
	timer  *time.Timer
	once   sync.Once
	done   func(error)

	body     io.ReadCloser
	patience time.Duration // renews the timer with each read of a stream; 0 for other answers
}

func newCall(ctx context.Context, limit time.Duration, done func(error)) *call {
	c := &call{caller: ctx, done: done}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.timer = time.AfterFunc(limit, func() { c.cancel(errTimeout) })
	return c
}

// outcome tells the breaker.
func (c *call) outcome(err error) { c.once.Do(func() { c.done(err) }) }

// end tells the breaker and frees what the call holds.
func (c *call) end(err error) {
	c.outcome(err)
	c.timer.Stop()
	c.cancel(context.Canceled)
}

// fail ends the call with an error of the network.
func (c *call) fail(err error) error {
	if c.caller.Err() != nil {
		c.end(errAbandoned)
		return fmt.Errorf("ask finn: %w", context.Cause(c.caller))
	}
	if errors.Is(context.Cause(c.ctx), errTimeout) {
		err = errTimeout
	}
	c.end(err)
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// refused ends the call with an answer that is no success.
func (c *call) refused(response *http.Response) error {
	defer response.Body.Close()
	err := &StatusError{Status: response.StatusCode, Code: errorCode(response.Body)}
	if response.StatusCode >= http.StatusInternalServerError {
		c.end(err)
	} else {
		c.end(nil)
	}
	return err
}

// errorCode is the code in the JSON of an error. It is only used to choose among
// errors of our own, and shown to no caller.
func errorCode(body io.Reader) string {
	var answer struct {
		Code string `json:"code"`
	}
	text, err := io.ReadAll(io.LimitReader(body, maxError))
	if err != nil || json.Unmarshal(text, &answer) != nil || len(answer.Code) > 64 {
		return ""
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
	if strings.ContainsFunc(answer.Code, func(c rune) bool { return !strings.ContainsRune(letters, c) }) {
		return ""
	}
	return answer.Code
}

// answered begins to hand the body on. A stream has succeeded when it begins, and
// from then on only has to go on.
func (c *call) answered(response *http.Response) {
	c.body = response.Body
	if Streams(response.Header) {
		c.outcome(nil)
		c.patience = silence
		c.timer.Reset(c.patience)
	}
}

// Streams reports whether an answer comes piece by piece.
func Streams(header http.Header) bool {
	media, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	return media == "text/event-stream" || media == "application/x-ndjson"
}

// Read reads the body.
func (c *call) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		c.outcome(nil)
	case err != nil:
		err = c.fail(err)
	case c.patience > 0:
		c.timer.Reset(c.patience)
	}
	return n, err
}

// Close ends the call. Whoever closes a body before its end has seen enough.
func (c *call) Close() error {
	c.end(nil)
	return c.body.Close()
}
