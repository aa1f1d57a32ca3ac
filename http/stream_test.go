package http_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dixie/http"
	"dixie/reputation"
)

// TestLogStream: the log as NDJSON is whole and in order, also where it is longer
// than what the server reads at once.
func TestLogStream(t *testing.T) {
	t.Parallel()
	const count = 2*http.StreamPage + 7
	tests := []struct {
		parameters  string
		first, last int
	}{
		{"", 1, count},
		{"?after=0", 1, count},
		{"?after=499", 500, count},
		{"?limit=500", 1, 500},
		{"?limit=501", 1, 501},
		{"?limit=1000", 1, 1000},
		{"?after=3&limit=1", 4, 4},
		{"?after=1000&limit=7", 1001, count},
		{"?after=" + strconv.Itoa(count), count + 1, count},
		{"?after=9007199254740991", count + 1, count},
	}
	eachBackend(t, func(t *testing.T, s *service) {
		file := lines("a", signals(count)...)
		s.do(t, bulk(file)).want(t, 200)
		for _, tt := range tests {
			got := s.get(t, "/api/reputation/events"+tt.parameters).want(t, 200)
			s.wantPositions(t, got.body, tt.first, tt.last)
			history := s.do(t, call{path: "/api/reputation/a/events" + tt.parameters}.with("Accept", "application/x-ndjson")).want(t, 200)
			same(t, "the history of the only NFT"+tt.parameters, history.body, got.body)
		}
	})
}

// wantPositions checks that NDJSON holds the events of these positions, and that
// an import reads it.
func (s *service) wantPositions(t testing.TB, body string, first, last int) {
	t.Helper()
	text := strings.SplitAfter(body, "\n")
	text = text[:len(text)-1]
	if len(text) != last-first+1 {
		t.Fatalf("%d lines, want those of %d to %d", len(text), first, last)
	}
	for i, line := range text {
		_, event, err := reputation.DecodeLine([]byte(line))
		if err != nil || event.ID != eventID(first+i) || !strings.HasPrefix(line, fmt.Sprintf(`{"position":%d,`, first+i)) {
			t.Fatalf("at %d: %s, %v", first+i, line, err)
		}
	}
}

// TestExportIsAnImport: the log of one server makes the same log in another.
func TestExportIsAnImport(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		s.tell(t)
		export := s.get(t, "/api/reputation/events").want(t, 200)
		other := newService(t, openMemory)
		got := other.do(t, bulk(export.body)).want(t, 200).imported(t)
		same(t, "imported", got.counts(), [3]int64{10, 0, 0})
		again := other.get(t, "/api/reputation/events").want(t, 200)
		same(t, "exported again", storedAt.ReplaceAllString(again.body, ""), storedAt.ReplaceAllString(export.body, ""))
	})
}

func TestAcceptNDJSON(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	s.tell(t)
	for accept, want := range map[string]string{
		"":                                      "application/json",
		"*/*":                                   "application/json",
		"application/json":                      "application/json",
		"application/x-ndjson":                  "application/x-ndjson",
		"text/html, application/x-ndjson;q=0.5": "application/x-ndjson",
		"Application/X-NDJSON":                  "application/x-ndjson",
		"application/x-ndjson;q=0":              "application/json",
		"application/x-ndjson;q=0.000":          "application/json",
		"application/x-ndjsonx":                 "application/json",
		",;,":                                   "application/json",
	} {
		got := s.do(t, call{path: "/api/reputation/bear-1/events"}.with("Accept", accept)).want(t, 200)
		if media := got.header.Get("Content-Type"); media != want {
			t.Errorf("Accept: %s gives %s, want %s", accept, media, want)
		}
	}
}

// feed is an open event stream.
type feed struct {
	*nethttp.Response
	lines *bufio.Scanner
	close context.CancelFunc
}

// sse asks for an event stream.
func sse(path, lastEventID string) call {
	c := call{path: path}.with("Accept", "text/event-stream")
	if lastEventID != "" {
		c = c.with("Last-Event-ID", lastEventID)
	}
	return c
}

// follow opens an event stream, which ends with the test.
func (s *service) follow(t testing.TB, c call) *feed {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	response, err := s.web.Client().Do(c.request(t, s.web.URL).WithContext(ctx))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	f := &feed{Response: response, lines: bufio.NewScanner(response.Body)}
	f.close = func() {
		cancel()
		_ = response.Body.Close()
	}
	t.Cleanup(f.close)
	return f
}

// next is the position of the next event; false at the end of the stream. It
// checks that the id and the data of an event name the same position.
func (f *feed) next(t testing.TB) (position int64, ok bool) {
	t.Helper()
	var id string
	for f.lines.Scan() {
		field, value, _ := strings.Cut(f.lines.Text(), ": ")
		switch field {
		case "id":
			id = value
		case "event":
			if value != "reputation_event" {
				t.Errorf("event type %q", value)
			}
		case "data":
			if !strings.HasPrefix(value, `{"position":`+id+`,`) {
				t.Errorf("id %s has the data %s", id, value)
			}
			position, err := strconv.ParseInt(id, 10, 64)
			if err != nil {
				t.Errorf("id: %v", err)
			}
			return position, true
		}
	}
	return 0, false
}

// wantNext reads events with these positions, one after the other.
func (f *feed) wantNext(t testing.TB, first, last int64) {
	t.Helper()
	for want := first; want <= last; want++ {
		if got, ok := f.next(t); !ok || got != want {
			t.Errorf("position %d, %v; want %d", got, ok, want)
			return
		}
	}
}

// TestEventStream: what is there comes first, and then what is appended, each
// once and in order.
func TestEventStream(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		call call
		from int64
	}{
		{"from the beginning", sse("/api/reputation/events", ""), 1},
		{"after a position", sse("/api/reputation/events?after=8", ""), 9},
		{"from the end", sse("/api/reputation/events?after=10", ""), 11},
		{"resumed", sse("/api/reputation/events", "9"), 10},
		// A browser's EventSource comes back to the same address.
		{"resumed beyond the address", sse("/api/reputation/events?after=2", "9"), 10},
		{"resumed before the first event", sse("/api/reputation/events?after=2", "0"), 1},
	}
	eachBackend(t, func(t *testing.T, s *service) {
		s.tell(t)
		var feeds []*feed
		for _, tt := range tests {
			f := s.follow(t, tt.call)
			if got := f.Header.Get("Content-Type"); f.StatusCode != 200 || got != "text/event-stream" {
				t.Fatalf("%s: status %d, Content-Type %s", tt.name, f.StatusCode, got)
			}
			f.wantNext(t, tt.from, 10)
			feeds = append(feeds, f)
		}
		for n := range 3 {
			position := int64(11 + n)
			s.do(t, appendTo("bear-1", signal(n, 0.5))).want(t, 201)
			for _, f := range feeds {
				f.wantNext(t, position, position)
			}
		}
	})
}

// TestLastEventID: what is no position is refused, before a stream begins.
func TestLastEventID(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	for _, id := range []string{"x", "-1", "1.5", "99999999999999999999", "1,2", "0x10"} {
		s.do(t, sse("/api/reputation/events", id)).wantProblem(t, "Last-Event-ID")
	}
	s.do(t, sse("/api/reputation/events?limit=5", "")).wantProblem(t, "limit")
	// Without the Accept header there is no stream to resume.
	s.do(t, call{path: "/api/reputation/events"}.with("Last-Event-ID", "x")).want(t, 200)
}

// TestManyFollowers: many clients read the same while several others append.
func TestManyFollowers(t *testing.T) {
	t.Parallel()
	const followers, writers, each = 20, 4, 25
	eachBackend(t, func(t *testing.T, s *service) {
		var following, writing sync.WaitGroup
		for range followers {
			f := s.follow(t, sse("/api/reputation/events", ""))
			following.Go(func() { f.wantNext(t, 1, writers*each) })
		}
		for w := range writers {
			writing.Go(func() {
				for n := range each {
					if got := s.do(t, appendTo("a", signal(w*each+n, 0.5))); got.status != 201 {
						t.Errorf("append: status %d", got.status)
					}
				}
			})
		}
		writing.Wait()
		following.Wait()
	})
}

// TestStreamLimit: streams beyond the limit are refused, and a client that leaves
// makes room for another.
func TestStreamLimit(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory, func(c *http.Config) { c.MaxStreams = 3 })
	s.tell(t)
	var feeds []*feed
	for range 3 {
		f := s.follow(t, sse("/api/reputation/events", ""))
		f.wantNext(t, 1, 10)
		feeds = append(feeds, f)
	}
	refused := s.do(t, sse("/api/reputation/events", ""))
	if f := refused.wantError(t, 503, "too_many_streams"); f.RetryAfter != 1 || refused.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q, %s", refused.header.Get("Retry-After"), refused.body)
	}
	// Other requests do not need a place.
	s.get(t, "/api/reputation/events").want(t, 200)
	feeds[1].close()
	eventually(t, "the place of a client that has left", func() bool {
		f := s.follow(t, sse("/api/reputation/events", ""))
		if f.StatusCode == 503 {
			f.close()
			return false
		}
		f.wantNext(t, 1, 10)
		return true
	})
	s.do(t, sse("/api/reputation/events", "")).want(t, 503)
}

// TestHeadOfStream: HEAD has no body to wait for and holds no place.
func TestHeadOfStream(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory, func(c *http.Config) { c.MaxStreams = 1 })
	s.tell(t)
	head := sse("/api/reputation/events", "")
	head.method = nethttp.MethodHead
	// In one connection, so that one request ends before the next begins.
	for range 3 {
		got := s.do(t, head).want(t, 200)
		if got.header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("header %v", got.header)
		}
	}
	s.follow(t, sse("/api/reputation/events", "")).wantNext(t, 1, 10)
}

// TestHeadReadsNothing: HEAD of the log does not read the log.
func TestHeadReadsNothing(t *testing.T) {
	t.Parallel()
	b := openMemory(t)
	log := &watchedLog{Log: b.log}
	b.log = log
	s := serve(t, b)
	s.do(t, bulk(lines("a", signals(2*http.StreamPage)...))).want(t, 200)
	log.events.Store(0)
	s.do(t, call{method: nethttp.MethodHead, path: "/api/reputation/events"}).want(t, 200)
	if n := log.events.Load(); n > http.StreamPage {
		t.Errorf("%d events were read", n)
	}
}

// watchedLog counts the events that are read, and fails after a position.
type watchedLog struct {
	reputation.Log
	events    atomic.Int64
	failAfter int64 // 0 never
}

func (w *watchedLog) check(after int64) error {
	if w.failAfter > 0 && after >= w.failAfter {
		return fmt.Errorf("%w: %s", reputation.ErrUnavailable, internals)
	}
	return nil
}

func (w *watchedLog) Read(ctx context.Context, after int64, limit int) ([]reputation.Recorded, error) {
	if err := w.check(after); err != nil {
		return nil, err
	}
	events, err := w.Log.Read(ctx, after, limit)
	w.events.Add(int64(len(events)))
	return events, err
}

func (w *watchedLog) History(ctx context.Context, nft string, after int64, limit int) ([]reputation.Recorded, error) {
	if err := w.check(after); err != nil {
		return nil, err
	}
	return w.Log.History(ctx, nft, after, limit)
}

// TestStopStreams ends the streams that are open, and lets other requests be.
func TestStopStreams(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		s.tell(t)
		var feeds []*feed
		for range 3 {
			f := s.follow(t, sse("/api/reputation/events", ""))
			f.wantNext(t, 1, 10)
			feeds = append(feeds, f)
		}
		s.server.StopStreams()
		for _, f := range feeds {
			if position, ok := f.next(t); ok {
				t.Errorf("position %d after the end", position)
			}
			if err := f.lines.Err(); err != nil {
				t.Errorf("the stream was broken off: %v", err)
			}
		}
		s.get(t, "/api/reputation/bear-1").want(t, 200)
		s.do(t, appendTo("bear-1", signal(1, 0.5))).want(t, 201)
		// A stream that begins now tells what there is and ends.
		late := s.do(t, sse("/api/reputation/events?after=9", "")).want(t, 200)
		if strings.Count(late.body, "\nid: ") != 2 {
			t.Errorf("late stream: %s", late.body)
		}
		s.server.StopStreams() // a second time does nothing
	})
}

// TestLogFails: before the first event there is an error to answer with; after
// it the connection breaks off, so that nobody takes a part for the whole.
func TestLogFails(t *testing.T) {
	t.Parallel()
	b := openMemory(t)
	b.log = &watchedLog{Log: b.log, failAfter: http.StreamPage}
	s := serve(t, b)
	s.do(t, bulk(lines("a", signals(2*http.StreamPage)...))).want(t, 200)
	s.get(t, fmt.Sprintf("/api/reputation/events?after=%d", http.StreamPage)).wantError(t, 503, "unavailable")
	response, err := s.web.Client().Do(call{path: "/api/reputation/events"}.request(t, s.web.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %d bytes, error %v; want a broken connection", len(body), err)
	}
	s.wantPositions(t, string(body), 1, http.StreamPage)
}

// TestHistoryFails: a page of which nothing can be read is an error.
func TestHistoryFails(t *testing.T) {
	t.Parallel()
	b := openMemory(t)
	b.log = &watchedLog{Log: b.log, failAfter: 3}
	s := serve(t, b)
	s.do(t, bulk(history(t))).want(t, 200)
	for _, accept := range []string{"application/json", "application/x-ndjson"} {
		got := s.do(t, call{path: "/api/reputation/bear-1/events?after=3"}.with("Accept", accept))
		got.wantError(t, 503, "unavailable")
		wantNoInternals(t, got)
	}
}

// TestEventStreamFails: a stream that cannot be read on ends, and the client
// resumes it.
func TestEventStreamFails(t *testing.T) {
	t.Parallel()
	b := openMemory(t)
	b.log = &watchedLog{Log: b.log, failAfter: 10}
	s := serve(t, b)
	s.do(t, bulk(history(t))).want(t, 200)
	f := s.follow(t, sse("/api/reputation/events", ""))
	f.wantNext(t, 1, 10)
	if position, ok := f.next(t); ok {
		t.Errorf("position %d", position)
	}
}

// tailing is an open event stream of a log, inside a bubble of fake time.
type tailing struct {
	*httptest.ResponseRecorder
	log reputation.Log
}

// tail opens an event stream, which ends with the test. It waits for nothing.
func tail(t *testing.T, b *backend) tailing {
	server := http.NewServer(b.config(t))
	w := httptest.NewRecorder()
	var serving sync.WaitGroup
	serving.Go(func() { server.ServeHTTP(w, sse("/api/reputation/events", "").request(t, "http://dixie.example")) })
	t.Cleanup(func() {
		server.StopStreams()
		serving.Wait()
	})
	synctest.Wait()
	return tailing{w, b.log}
}

// add appends event n to a log.
func add(t testing.TB, log reputation.Log, n int) {
	t.Helper()
	event, err := reputation.Decode([]byte(signal(n, 0.5)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), reputation.NewEntry("a", &event)); err != nil {
		t.Fatal(err)
	}
}

// append adds event 1, and waits until nothing more happens of itself.
func (s tailing) append(t testing.TB) {
	t.Helper()
	add(t, s.log, 1)
	synctest.Wait()
}

// events are how often the stream has told event 1.
func (s tailing) events() int { return strings.Count(s.Body.String(), "\nid: 1\n") }

// TestTailWithoutDelay: what is appended is sent before any time passes.
func TestTailWithoutDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := tail(t, openMemory(t))
		s.append(t)
		if s.events() != 1 {
			t.Errorf("the stream is %q", s.Body)
		}
	})
}

// TestHeartbeat: a silent stream gives signs of life for proxies.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := tail(t, openMemory(t))
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if beats := strings.Count(s.Body.String(), "\n:\n"); beats < 4 {
			t.Errorf("%d heartbeats in a minute", beats)
		}
	})
}

// deafLog never announces anything, like a log whose notifications are lost.
type deafLog struct{ reputation.Log }

func (deafLog) Changed() <-chan struct{} { return nil }

// TestLostAnnouncement: a stream finds also what nobody told it of.
func TestLostAnnouncement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := openMemory(t)
		b.log = deafLog{b.log}
		s := tail(t, b)
		s.append(t)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if s.events() != 1 {
			t.Errorf("the stream is %q", s.Body)
		}
	})
}

// pipes are a listener's connections, inside a bubble of fake time.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error {
	close(p)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestStreamOutlivesTimeouts: the timeouts of a server are for requests that end
// soon. A stream goes on after them.
func TestStreamOutlivesTimeouts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := openMemory(t)
		server := http.NewServer(b.config(t))
		web := &nethttp.Server{Handler: server, ReadTimeout: time.Second, WriteTimeout: time.Second}
		listener, done := make(pipes, 1), make(chan error)
		go func() { done <- web.Serve(listener) }()
		conn, accepted := net.Pipe()
		listener <- accepted
		request := sse("/api/reputation/events", "").request(t, "http://dixie.example")
		if err := request.Write(conn); err != nil {
			t.Fatal(err)
		}
		response, err := nethttp.ReadResponse(bufio.NewReader(conn), request)
		if err != nil {
			t.Fatal(err)
		}
		f := &feed{Response: response, lines: bufio.NewScanner(response.Body)}
		for n := range 5 {
			time.Sleep(7 * time.Second)
			add(t, b.log, n)
			f.wantNext(t, int64(n+1), int64(n+1))
		}
		_ = conn.Close() // closing the body would wait for its end
		_ = web.Close()
		<-done
	})
}
