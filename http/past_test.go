package http_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	nethttp "net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"dixie/http"
	"dixie/projections"
	"dixie/reputation"
)

// randomLine is event n of a random history of five NFTs in two collections, as a
// line of NDJSON: one in eight names the other collection.
func randomLine(n int) string {
	nft := rand.IntN(5)
	collection := nft % 2
	if rand.IntN(8) == 0 {
		collection = 1 - collection
	}
	event := fmt.Sprintf(`{"type":"quality_signal","event_id":"%s","agent_id":"a","collection_id":"c%d","timestamp":"2026-02-25T11:%02d:00Z",`+
		`"score":%v,"task_type":"analysis"}`, eventID(n), collection, rand.IntN(60), rand.Float64())
	return lines(fmt.Sprintf("nft-%d", nft), event)
}

// asOf is a view as of a position without what depends on when it is asked, or an
// error's code.
func (a answer) asOf(t testing.TB) string {
	t.Helper()
	var view map[string]json.RawMessage
	a.into(t, &view)
	if a.status != 200 {
		return string(view["error"])
	}
	delete(view, "snapshot_at")
	delete(view, "reliability")
	text, err := json.Marshal(view)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAsOf: what a server says of a position is what another one says whose log ends
// there.
func TestAsOf(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		const events = 30
		var told []string
		for n := range events {
			told = append(told, randomLine(n))
		}
		s.do(t, bulk(strings.Join(told, ""))).want(t, 200)
		s.settle(t)
		then := newService(t, openMemory)
		for n, line := range told {
			then.do(t, bulk(line)).want(t, 200)
			then.settle(t)
			for nft := range 5 {
				path := fmt.Sprintf("/api/reputation/nft-%d", nft)
				want := then.get(t, path)
				got := s.get(t, and(path, fmt.Sprintf("as_of=%d", n+1)))
				if got.status != want.status || got.asOf(t) != want.asOf(t) {
					t.Fatalf("after position %d:\n got %s\nwant %s", n+1, got.body, want.body)
				}
				if position := got.header.Get("X-Reputation-Position"); position != fmt.Sprint(n+1) {
					t.Errorf("as of %d: position %s", n+1, position)
				}
			}
		}
		s.checkSnapshots(t)
	})
}

// checkSnapshots checks the hash of each NFT's events against the text that a third
// party can make of what the API gives it.
func (s *service) checkSnapshots(t testing.TB) {
	t.Helper()
	for nft := range 5 {
		path := fmt.Sprintf("/api/reputation/nft-%d", nft)
		answer := s.get(t, path+"/snapshot")
		if answer.status == nethttp.StatusNotFound {
			continue
		}
		var got struct {
			EventCount int    `json:"event_count"`
			Hash       string `json:"event_stream_hash"`
			Aggregate  json.RawMessage
			SnapshotAt string `json:"snapshot_at"`
			Version    string `json:"contract_version"`
		}
		decoder := json.NewDecoder(bytes.NewReader([]byte(answer.body)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&got); err != nil {
			t.Fatal(err)
		}
		var events []string
		for line := range strings.Lines(s.do(t, call{path: path + "/events"}.with("Accept", "application/x-ndjson")).want(t, 200).body) {
			_, event, _ := strings.Cut(strings.TrimSuffix(line, "}\n"), `"event":`)
			events = append(events, event)
		}
		sum := sha256.Sum256([]byte("[" + strings.Join(events, ",") + "]"))
		if got.Hash != hex.EncodeToString(sum[:]) || got.EventCount != len(events) {
			t.Errorf("%s: hash %s of %d events, want %x of %d", path, got.Hash, got.EventCount, sum, len(events))
		}
	}
}

// TestAsOfTime: a time means what the log had stored by then, and is as good as the
// position.
func TestAsOfTime(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		s.tell(t)
		stored, err := s.log.Read(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range stored {
			at := r.CreatedAt.Format(time.RFC3339Nano)
			for _, nft := range []string{"bear-1", "cub-1"} {
				path := "/api/reputation/" + nft
				byTime, byPosition := s.get(t, path+"?as_of="+at), s.get(t, fmt.Sprintf("%s?as_of=%d", path, r.Position))
				same(t, "as of "+at, byTime.asOf(t), byPosition.asOf(t))
				same(t, "position", byTime.header.Get("X-Reputation-Position"), byPosition.header.Get("X-Reputation-Position"))
			}
			var got struct{ Points []struct{ Position int64 } }
			s.get(t, "/api/reputation/bear-1/timeline?from="+at+"&to="+at).want(t, 200).into(t, &got)
			if mine := r.NFT == "bear-1"; mine != (len(got.Points) == 1) || mine && got.Points[0].Position != r.Position {
				t.Errorf("timeline from and to %d: %+v", r.Position, got.Points)
			}
		}
	})
}

// TestAsOfReliability: a reputation of long ago is not stale by today's clock, and
// says when it was so.
func TestAsOfReliability(t *testing.T) {
	t.Parallel()
	b := openMemory(t)
	b.project(t)
	s := serve(t, b, func(c *http.Config) { c.Now = func() time.Time { return now.AddDate(100, 0, 0) } })
	s.do(t, appendTo("bear-1", `{"type":"quality_signal","event_id":"`+eventID(1)+`","agent_id":"a","collection_id":"c","timestamp":"`+
		time.Now().UTC().Format(time.RFC3339)+`","score":0.5}`)).want(t, 201)
	s.settle(t)
	stored, err := s.log.Read(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	type answered struct {
		SnapshotAt  time.Time `json:"snapshot_at"`
		Reliability reputation.Reliability
	}
	var today, then answered
	s.get(t, "/api/reputation/bear-1").want(t, 200).into(t, &today)
	s.get(t, "/api/reputation/bear-1?as_of=1").want(t, 200).into(t, &then)
	if len(today.Reliability.Reasons) != 2 || len(then.Reliability.Reasons) != 1 {
		t.Errorf("reasons today %v, then %v", today.Reliability.Reasons, then.Reliability.Reasons)
	}
	if then.SnapshotAt.Sub(stored[0].CreatedAt).Abs() > time.Millisecond {
		t.Errorf("snapshot at %v of an event stored at %v", then.SnapshotAt, stored[0].CreatedAt)
	}
}

// pastCalls read the past.
var pastCalls = []call{
	{path: "/api/reputation/bear-1?as_of=10"},
	{path: "/api/reputation/bear-1/timeline"},
	{path: "/api/reputation/bear-1/timeline", header: map[string]string{"Accept": "application/x-ndjson"}},
	{path: "/api/reputation/bear-1/snapshot"},
}

// TestPastTooLong: what takes more events than a request may read says so, and what
// to do instead.
func TestPastTooLong(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			backend := b.open(t)
			backend.project(t)
			s := serve(t, backend, func(c *http.Config) {
				c.Past = backend.past(projections.PastConfig{Params: reputation.DefaultParams(), MaxEvents: 6})
			})
			s.tell(t)
			for _, c := range pastCalls {
				f := s.do(t, c).wantError(t, 422, "history_too_long")
				if !strings.Contains(f.Message, "6 events") || !strings.Contains(f.Message, "dixie replay --until") {
					t.Errorf("message %q", f.Message)
				}
			}
			s.get(t, "/api/reputation/bear-1?as_of=4").want(t, 200)
		})
	}
}

// busyPast waits until its caller gives up.
type busyPast struct {
	http.Past
	begun chan struct{}
}

func (p busyPast) wait(ctx context.Context) error {
	p.begun <- struct{}{}
	<-ctx.Done()
	return fmt.Errorf("%w: %s", reputation.ErrUnavailable, internals)
}

func (p busyPast) ReputationAt(ctx context.Context, _ string, _ int64) (reputation.Standing, error) {
	return reputation.Standing{}, p.wait(ctx)
}

func (p busyPast) Timeline(ctx context.Context, _ string, _, _ int64, _ func(reputation.Step) error) error {
	return p.wait(ctx)
}

func (p busyPast) Snapshot(ctx context.Context, _ string, _ int64) (reputation.Snapshot, error) {
	return reputation.Snapshot{}, p.wait(ctx)
}

// TestPastIsBounded: no request reads the past for long, and the answer says that it
// was this.
func TestPastIsBounded(t *testing.T) {
	t.Parallel()
	b := openMemory(t)
	b.project(t)
	(&service{backend: b, web: listen(t, http.NewServer(b.config(t)))}).tell(t)
	synctest.Test(t, func(t *testing.T) {
		for _, c := range pastCalls {
			config := b.config(t)
			config.Past = busyPast{Past: config.Past, begun: make(chan struct{}, 1)}
			server := http.NewServer(config)
			start := time.Now()
			got := (&service{server: server}).hand(t, c)
			got.wantError(t, 503, "history_timeout")
			wantNoInternals(t, got)
			if waited := time.Since(start); waited != 30*time.Second {
				t.Errorf("%s: waited for %s", c.path, waited)
			}
		}
	})
}

// TestPastIsShared: few requests read the past at the same time, the others are told
// to come back, and a place is free again when its request has ended.
func TestPastIsShared(t *testing.T) {
	t.Parallel()
	b := openMemory(t)
	b.project(t)
	busy := busyPast{Past: b.config(t).Past, begun: make(chan struct{}, 2)}
	s := serve(t, b, func(c *http.Config) { c.Past, c.PastTimeout = busy, patience })
	s.tell(t)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	for range 2 {
		go func() {
			_, err := s.web.Client().Do(pastCalls[0].request(t, s.web.URL).WithContext(ctx))
			left <- err
		}()
		<-busy.begun
	}
	for _, c := range pastCalls {
		got := s.do(t, c)
		got.wantError(t, 503, "too_many_histories")
		if got.header.Get("Retry-After") != "1" {
			t.Errorf("%s: Retry-After %q", c.path, got.header.Get("Retry-After"))
		}
	}
	s.get(t, "/api/reputation/bear-1").want(t, 200) // the present is not affected
	leave()
	for range 2 {
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("a request that was given up: %v", err)
		}
	}
	eventually(t, "there are places again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		response, err := s.web.Client().Do(pastCalls[0].request(t, s.web.URL).WithContext(ctx))
		if err != nil {
			<-busy.begun
			return true
		}
		_ = response.Body.Close()
		return false
	})
}

// longPast has a timeline of many steps, and then an error, or none.
type longPast struct {
	http.Past
	steps int
	err   error
}

func (p longPast) Timeline(_ context.Context, _ string, _, _ int64, visit func(reputation.Step) error) error {
	for n := range p.steps {
		if err := visit(step(n)); err != nil {
			return err
		}
	}
	return p.err
}

func step(n int) reputation.Step {
	state := reputation.StateWarming
	if n == 0 {
		state = reputation.StateCold
	}
	return reputation.Step{
		Position: int64(n + 1), CreatedAt: now.Add(time.Duration(n) * time.Second), EventID: eventID(n), Type: reputation.TypeQualitySignal,
		Timestamp: reputation.TimestampOf(now), State: state, BlendedScore: float64(n%100) / 100, SampleCount: int64(n),
	}
}

func longTimeline(t *testing.T, steps int, err error) *service {
	t.Helper()
	b := openMemory(t)
	b.project(t)
	s := serve(t, b, func(c *http.Config) { c.Past = longPast{c.Past, steps, err} })
	s.tell(t)
	return s
}

// TestLongTimeline: as NDJSON a timeline is whole, however long; as JSON it has as
// many points as were asked for, and counts the rest.
func TestLongTimeline(t *testing.T) {
	t.Parallel()
	s := longTimeline(t, 5000, nil)
	whole := s.do(t, pastCalls[2]).want(t, 200)
	if n := strings.Count(whole.body, "\n"); n != 5000 || whole.header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%d lines of %s", n, whole.header.Get("Content-Type"))
	}
	for _, points := range []int{2, 200, 2000} {
		var got struct {
			Points          []struct{ Position int64 }
			Events, Omitted int
		}
		s.get(t, fmt.Sprintf("/api/reputation/bear-1/timeline?points=%d", points)).want(t, 200).into(t, &got)
		if len(got.Points) != points || got.Events != 5000 || got.Omitted != 5000-points ||
			got.Points[0].Position != 1 || got.Points[points-1].Position != 5000 {
			t.Errorf("%d points: %d of %d, %d omitted", points, len(got.Points), got.Events, got.Omitted)
		}
	}
	head := s.do(t, call{method: nethttp.MethodHead, path: pastCalls[2].path, header: pastCalls[2].header, key: "read"}).want(t, 200)
	if head.body != "" || head.header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("HEAD: %q, %v", head.body, head.header)
	}
}

// TestTimelineBreaksOff: when the past cannot be read to its end, nobody takes half
// of it for the whole.
func TestTimelineBreaksOff(t *testing.T) {
	t.Parallel()
	s := longTimeline(t, 5000, errors.New(internals))
	response, err := s.web.Client().Do(pastCalls[2].request(t, s.web.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := readBody(response.Body, 0); err == nil || response.StatusCode != 200 {
		t.Errorf("status %d, and the answer seems to be whole", response.StatusCode)
	}
	got := longTimeline(t, 3, errors.New(internals)).do(t, pastCalls[2]) // nothing is sent yet
	got.wantError(t, 500, "internal_error")
	wantNoInternals(t, got)
}

// TestPropertySketch: a sketch has the first, the last and all changes of state, is as
// long as it may be, and has no wide gap.
func TestPropertySketch(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(2, 40).Draw(t, "most")
		states := rapid.SampledFrom([]reputation.State{"cold", "warming", "warming", "warming"})
		steps := make([]reputation.Step, rapid.IntRange(0, 600).Draw(t, "steps"))
		seldom := rapid.IntRange(1, 100).Draw(t, "seldom")
		var changes []int64
		for n := range steps {
			steps[n] = step(n)
			switch {
			case n > 0 && rapid.IntRange(0, seldom).Draw(t, "change") == 0:
				steps[n].State = states.Draw(t, "state")
			case n > 0:
				steps[n].State = steps[n-1].State
			}
			if n > 0 && steps[n].State != steps[n-1].State {
				changes = append(changes, steps[n].Position)
			}
		}
		kept, events := http.Sketch(most, steps)
		if len(kept) != min(most, len(steps)) || events != int64(len(steps)) {
			t.Fatalf("%d kept of %d, at most %d; %d events", len(kept), len(steps), most, events)
		}
		if len(steps) == 0 {
			return
		}
		checkSketch(t, most, steps, changes, kept)
	})
}

func checkSketch(t *rapid.T, most int, steps []reputation.Step, changes []int64, kept []reputation.Step) {
	var positions []int64
	for i, s := range kept {
		if s != steps[s.Position-1] || i > 0 && s.Position <= kept[i-1].Position {
			t.Fatalf("kept %v in this order", kept)
		}
		positions = append(positions, s.Position)
	}
	if positions[0] != 1 || positions[len(positions)-1] != int64(len(steps)) {
		t.Fatalf("kept %v of %d", positions, len(steps))
	}
	if len(changes) > most-2 {
		return
	}
	for _, p := range changes {
		if !slices.Contains(positions, p) {
			t.Fatalf("the change of state at %d is not among %v", p, positions)
		}
	}
	if room := most - 2 - len(changes); room > 0 {
		for i := range positions[1:] {
			if gap := positions[i+1] - positions[i]; gap > int64(4*len(steps)/room+2+len(changes)) {
				t.Fatalf("nothing between %d and %d of %d steps, for which there are %d places", positions[i], positions[i+1], len(steps), room)
			}
		}
	}
}

// TestResetByAdministrator: a reset is in the history like any event, in the name of the caller
// unless another is given, and one that is sent again counts once although time has
// gone on.
func TestResetByAdministrator(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			backend := b.open(t)
			backend.project(t)
			var clock atomic.Int64
			s := serve(t, backend, func(c *http.Config) {
				c.Now = func() time.Time { return now.Add(time.Duration(clock.Add(1)) * time.Second) }
			})
			s.tell(t)
			for _, c := range []call{
				resetOf("bear-1", `{"reason":"stolen"}`),
				resetOf("bear-1", `{"reason":"stolen","event_id":"`+eventID(7)+`"}`),
				resetOf("bear-1", `{"reason":"stolen","actor":"a judge"}`).with("Idempotency-Key", "7"),
			} {
				s.do(t, c).want(t, 201)
				if c.header["Idempotency-Key"] != "" || strings.Contains(c.body, "event_id") {
					s.do(t, c).want(t, 200)
				}
			}
			if head := s.head(t); head != 13 {
				t.Errorf("the log ends at %d, want three resets after 10 events", head)
			}
			history := s.get(t, "/api/reputation/bear-1/events?after=10").want(t, 200).body
			for _, want := range []string{`"actor":"admin","agent_id":"bear-1","collection_id":"honey"`, `"actor":"a judge"`, `"type":"reputation_reset"`} {
				if !strings.Contains(history, want) {
					t.Errorf("%s is missing from %s", want, history)
				}
			}
			var after view
			s.get(t, "/api/reputation/bear-1?at_least=13&wait=30s").want(t, 200).into(t, &after)
			if after.State != "cold" || after.PersonalScore != nil || after.SampleCount != 0 {
				t.Errorf("after the reset %+v", after)
			}
			// Another caller's key with the same text is another key.
			s.do(t, resetOf("bear-1", `{"reason":"stolen","actor":"a judge"}`).with("Idempotency-Key", "7").as("append,admin")).want(t, 201)
		})
	}
}

// TestResetAtOnce: an agent whose first event has only just been appended can be
// reset, while its projections catch up.
func TestResetAtOnce(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		for n := range 20 {
			nft := fmt.Sprintf("nft-%d", n)
			s.do(t, appendTo(nft, signal(2*n, 0.5))).want(t, 201)
			s.do(t, resetOf(nft, `{"reason":"a mistake"}`)).want(t, 201)
		}
		s.settle(t)
		for _, name := range projections.Names {
			if failures, err := s.rows.Failures(t.Context(), name, 0, 10); err != nil || len(failures) > 0 {
				t.Errorf("set aside: %v, %v", failures, err)
			}
		}
	})
}

// TestResetConcurrently: of many who send one reset, one appends it.
func TestResetConcurrently(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, s *service) {
		s.tell(t)
		statuses := make(chan int, 20)
		for range cap(statuses) {
			go func() {
				statuses <- s.do(t, resetOf("bear-1", `{"reason":"stolen"}`).with("Idempotency-Key", "once")).status
			}()
		}
		created := 0
		for range cap(statuses) {
			switch status := <-statuses; status {
			case nethttp.StatusCreated:
				created++
			case nethttp.StatusOK:
			default:
				t.Errorf("status %d", status)
			}
		}
		if created != 1 || s.head(t) != 11 {
			t.Errorf("%d were created, the log ends at %d", created, s.head(t))
		}
	})
}
