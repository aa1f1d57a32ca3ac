package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dixie/internal/dixiecmd"
)

const (
	// readRate and appendRate are requests per second.
	readRate   = 200
	appendRate = 200

	// p99Target is how much longer reads may take while projections are rebuilt.
	p99Target = 3.0

	benchKey = "dxk_key_of_the_benchmark"
)

// benchTraffic measures reads and appends through HTTP while the server rebuilds.
func benchTraffic(ctx context.Context, r *run) error {
	p, err := r.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	s, err := r.serveProjected(ctx, p, "live", r.events, r.agents)
	if err != nil {
		return err
	}
	defer s.stop()
	t := newTraffic(s, r.agents, r.events)
	stop := t.start(ctx)
	defer stop()
	t.during(ctx, r.calm/4) // warms everything up
	before := t.during(ctx, r.calm)
	var ratios samples
	var longest []time.Duration
	for range r.repeat {
		reads, err := t.rebuild(ctx)
		if err != nil {
			return err
		}
		r.log.InfoContext(ctx, "rebuilt", "reads", len(reads), "p50", percentile(reads, 50), "p99", percentile(reads, 99), "longest", slices.Max(reads))
		ratios = append(ratios, float64(percentile(reads, 99))/float64(percentile(before, 99)))
		longest = append(longest, reads...)
		t.during(ctx, 2*time.Second)
	}
	stop()
	r.report.add(line{
		what:  fmt.Sprintf("p99 of reads while %d events of %d agents are rebuilt, %d reads/s and %d appends/s", r.events, r.agents, readRate, appendRate),
		value: fmt.Sprintf("%v, p50 %v, longest %v", percentile(longest, 99), percentile(longest, 50), slices.Max(longest)),
		limit: fmt.Sprintf("before %v, p50 %v", percentile(before, 99), percentile(before, 50)),
		ratio: fmt.Sprintf("%.2f (%.2f to %.2f)", ratios.median(), slices.Min(ratios), slices.Max(ratios)), target: fmt.Sprintf("at most %.0f", p99Target),
		met: ratios.median() <= p99Target,
		by:  "the processors, which rebuild, database, server and the client of this measurement share",
	})
	r.report.add(line{
		what:  "requests that failed, or read an older position than one before",
		value: fmt.Sprint(t.failed.Load()), limit: fmt.Sprintf("%d reads, %d appends", t.reads.Load(), t.appends.Load()),
		ratio: "–", target: "none", met: t.failed.Load() == 0,
	})
	return r.compareImport(ctx, p, s)
}

// compareImport compares the digests of the database and of a fresh one that has
// imported its export.
func (r *run) compareImport(ctx context.Context, p *postgres, live *server) error {
	if err := live.settle(ctx); err != nil {
		return err
	}
	digests := map[string]string{}
	export := filepath.Join(r.dir, "log.ndjson.gz")
	if _, err := r.runDixie(ctx, p, "live", "export", export); err != nil {
		return err
	}
	if err := p.create(ctx, "fresh"); err != nil {
		return err
	}
	if _, err := r.runDixie(ctx, p, "fresh", "import", export); err != nil {
		return err
	}
	fresh, err := r.serve(ctx, p, "fresh")
	if err != nil {
		return err
	}
	defer fresh.stop()
	if err := fresh.settle(ctx); err != nil {
		return err
	}
	for _, database := range []string{"live", "fresh"} {
		used, err := r.runDixie(ctx, p, database, "verify")
		if err != nil {
			return err
		}
		for line := range strings.Lines(used.output) {
			if strings.Contains(line, "sha256:") {
				digests[database] += strings.TrimSpace(line) + " "
			}
		}
	}
	r.report.add(line{
		what:  "digest after verify was clean",
		value: digests["live"], limit: "of a fresh database with the same export: " + digests["fresh"],
		ratio: "–", target: "the same", met: digests["live"] == digests["fresh"] && digests["live"] != "",
	})
	return nil
}

// server is a running dixie serve.
type server struct {
	cmd *exec.Cmd
	url string
}

var readyLine = regexp.MustCompile(`Dixie is ready at (http://\S+)`)

// serve starts a server. It is to be stopped.
func (r *run) serve(ctx context.Context, p *postgres, database string) (*server, error) {
	cmd := exec.CommandContext(ctx, r.dixie, "serve", "--dev", "--port", "0")
	cmd.Env = append(dixiecmd.Environ(), "DATABASE_URL="+p.server.URL(database), "DIXIE_DEV_API_KEY="+benchKey, "LOG_LEVEL=warn", "DIXIE_PPROF_ADDR="+r.pprof)
	var log bytes.Buffer
	cmd.Stderr = &log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd}
	for lines := bufio.NewScanner(stdout); s.url == "" && lines.Scan(); {
		if match := readyLine.FindStringSubmatch(lines.Text()); match != nil {
			s.url = match[1]
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	if s.url == "" {
		s.stop()
		return nil, fmt.Errorf("the server did not start: %s", log.String())
	}
	return s, nil
}

func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: time.Minute}

// do sends a request and returns the answer's body and header.
func (s *server) do(ctx context.Context, method, path, body string, want int) ([]byte, http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+benchKey)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != want {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	return text, response.Header, err
}

// settle waits until all that is in the log is projected.
func (s *server) settle(ctx context.Context) error {
	for {
		text, _, err := s.do(ctx, http.MethodGet, "/api/health", "", http.StatusOK)
		if err != nil {
			return err
		}
		var health struct {
			Projections map[string]struct {
				Head      int64 `json:"head"`
				LagEvents int64 `json:"lag_events"`
			}
		}
		if err := json.Unmarshal(text, &health); err != nil {
			return err
		}
		behind := int64(0)
		for _, p := range health.Projections {
			behind += p.LagEvents
		}
		if len(health.Projections) == 2 && behind == 0 {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// traffic is reads and appends at fixed rates, whether or not earlier ones were
// answered: a server that stalls shows in all requests that would have come.
type traffic struct {
	server *server
	agents int

	appended       atomic.Int64 // number of the last event
	reads, appends atomic.Int64
	failed         atomic.Int64
	seen           atomic.Int64 // highest position that was read

	mu        sync.Mutex
	latencies []time.Duration // of reads, since they were asked for last
	problems  int
}

func newTraffic(s *server, agents, events int) *traffic {
	t := &traffic{server: s, agents: agents}
	t.appended.Store(int64(events))
	return t
}

// start sends requests until stop is called, which waits for their answers.
func (t *traffic) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, kind := range []struct {
		rate int
		send func(context.Context, time.Time)
	}{{readRate, t.read}, {appendRate, t.append}} {
		running.Go(func() {
			interval := time.Second / time.Duration(kind.rate)
			for at := time.Now(); ctx.Err() == nil; at = at.Add(interval) {
				time.Sleep(time.Until(at))
				running.Go(func() { kind.send(context.WithoutCancel(ctx), at) })
			}
		})
	}
	return sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
}

// read reads an agent. Its latency counts from when it was to be sent.
func (t *traffic) read(ctx context.Context, due time.Time) {
	floor := t.seen.Load()
	_, header, err := t.server.do(ctx, http.MethodGet, fmt.Sprintf("/api/reputation/agent-%d", rand.IntN(t.agents)), "", http.StatusOK)
	t.reads.Add(1)
	latency := time.Since(due)
	if err != nil {
		t.fail(err)
		return
	}
	position, err := strconv.ParseInt(header.Get("X-Reputation-Position"), 10, 64)
	if err != nil || position < floor {
		t.fail(errors.Join(err, fmt.Errorf("position %d after %d", position, floor)))
	}
	for seen := floor; position > seen && !t.seen.CompareAndSwap(seen, position); seen = t.seen.Load() {
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.latencies = append(t.latencies, latency)
}

func (t *traffic) append(ctx context.Context, _ time.Time) {
	n := int(t.appended.Add(1))
	nft, _, text := event(rand.New(rand.NewPCG(2, uint64(n))), n, t.agents)
	_, _, err := t.server.do(ctx, http.MethodPost, "/api/reputation/"+nft+"/events", text, http.StatusCreated)
	t.appends.Add(1)
	if err != nil {
		t.fail(err)
	}
}

// fail notes a request that failed, and tells the first.
func (t *traffic) fail(err error) {
	t.failed.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.problems++; t.problems <= 10 {
		fmt.Println("failed:", err)
	}
}

// during are the latencies of reads in some time.
func (t *traffic) during(ctx context.Context, d time.Duration) []time.Duration {
	t.take()
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return t.take()
}

func (t *traffic) take() []time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.latencies
	t.latencies = nil
	return taken
}

// rebuild rebuilds everything and returns the latencies of reads meanwhile.
func (t *traffic) rebuild(ctx context.Context) ([]time.Duration, error) {
	const path = "/api/admin/projections/all/rebuild"
	t.take()
	if _, _, err := t.server.do(ctx, http.MethodPost, path, "", http.StatusAccepted); err != nil {
		return nil, err
	}
	for {
		text, _, err := t.server.do(ctx, http.MethodGet, path, "", http.StatusOK)
		if err != nil {
			return nil, err
		}
		var view struct{ State, Error string }
		if err := json.Unmarshal(text, &view); err != nil {
			return nil, err
		}
		switch view.State {
		case "running":
		case "done":
			return t.take(), nil
		default:
			return nil, fmt.Errorf("the rebuild is %s: %s", view.State, view.Error)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// percentile is the latency below which so many percent are.
func percentile(latencies []time.Duration, percent int) time.Duration {
	if len(latencies) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(latencies))
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)].Round(10 * time.Microsecond)
}
