package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// follower reads the log as a stream of Server-Sent Events. When the stream ends
// it comes back with the id of the last event that it got.
type follower struct {
	client *client
	last   atomic.Int64     // position of the last event
	comes  int              // connections
	events map[string]int64 // positions, by event
}

// newFollower follows the log after a position.
func newFollower(c *client, after int64) *follower {
	f := &follower{client: c, events: map[string]int64{}}
	f.last.Store(after)
	return f
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := f.follow(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(minPause):
		case <-ctx.Done():
		}
	}
	return nil
}

// follow reads one stream to its end.
func (f *follower) follow(ctx context.Context) error {
	f.comes++
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.client.url+"/api/reputation/events", nil)
	if err != nil {
		return err
	}
	request.Header = f.client.header.Clone()
	request.Header.Set("Accept", "text/event-stream")
	request.Header.Set("Last-Event-ID", strconv.FormatInt(f.last.Load(), 10))
	response, err := (&http.Client{Transport: f.client.http.Transport}).Do(request) // without a time limit
	if err != nil {
		return nil // and come back
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusBadGateway || response.StatusCode == http.StatusServiceUnavailable {
		return nil
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("follow: %s", response.Status)
	}
	return f.read(bufio.NewScanner(response.Body))
}

// read takes events as long as they come. A stream that is cut off may end within
// an event, which then does not count.
func (f *follower) read(lines *bufio.Scanner) error {
	var id, data string
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "id":
			id = value
		case name == "data":
			data = value
		case lines.Text() == "" && data != "":
			if err := f.take(id, data); err != nil {
				return err
			}
			id, data = "", ""
		}
	}
	return nil
}

// take accepts only the event after the last.
func (f *follower) take(id, data string) error {
	var s stored
	if err := json.Unmarshal([]byte(data), &s); err != nil {
		return fmt.Errorf("follow: %w: %s", err, data)
	}
	if want := f.last.Load() + 1; s.Position != want || id != strconv.FormatInt(want, 10) {
		return fmt.Errorf("follow: event %s at %d after %d", id, s.Position, want-1)
	}
	f.last.Store(s.Position)
	f.events[s.Event.ID] = s.Position
	return nil
}
