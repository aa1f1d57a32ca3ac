package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/internal/dixiecmd"
	"dixie/internal/pgtest"
)

// How often TestRebuildKilled kills, and the seed of its moments.
var (
	kills    = flag.Int("kills", 5, "how often the test of killed rebuilds kills one")
	killSeed = flag.Uint64("killseed", 0, "seed of the moments at which rebuilds are killed; 0 is a new one")
)

// rebuilding is a database whose log is being appended to and projected by a
// server.
type rebuilding struct {
	t      *testing.T
	url    string
	env    []string
	server *server
	random *rand.Rand
}

func newRebuilding(t *testing.T, events, agents int) *rebuilding {
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: repeat with -killseed", seed)
	r := &rebuilding{t: t, url: pgtest.EmptyURL(t), random: rand.New(rand.NewPCG(seed, 0))}
	r.env = []string{"DATABASE_URL=" + r.url}
	r.server = serve(t, r.env)
	var report importReport
	r.server.post("/api/reputation/events", ndjson, bytes.NewReader(history(1, events, agents)), http.StatusOK, &report)
	if report.Appended != int64(events) {
		t.Fatalf("imported %+v", report)
	}
	r.server.get(fmt.Sprintf("/api/reputation?limit=1&at_least=%d&wait=30s", report.Position), http.StatusOK, nil)
	return r
}

// appendAll appends an event now and then, and reads what it wrote, until stop is
// called.
func (r *rebuilding) appendAll() (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		position := int64(0)
		for n := 0; ctx.Err() == nil; n++ {
			response, text, err := r.server.do(http.MethodPost, "/api/reputation/events", ndjson, bytes.NewReader(history(uint64(1000+n), 1, 50)))
			var report importReport
			if err != nil || response.StatusCode != http.StatusOK || json.Unmarshal(text, &report) != nil || report.Position <= position {
				r.t.Errorf("append: error %v, answer %s after position %d", err, text, position)
				return
			}
			position = report.Position
			response, text, err = r.server.do(http.MethodGet, fmt.Sprintf("/api/reputation?limit=3&at_least=%d&wait=30s", position), "", nil)
			if err != nil || response.StatusCode != http.StatusOK {
				r.t.Errorf("read: error %v, answer %s", err, text)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// start starts a rebuild in a process of its own, when PostgreSQL has noticed that
// the last one was killed.
func (r *rebuilding) start() *exec.Cmd {
	r.t.Helper()
	r.await("the locks of the last rebuild are free", `SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND classid = 1684633707`)
	cmd := exec.Command(dixie, "rebuild")
	cmd.Env = append(dixiecmd.Environ(), r.env...)
	cmd.Stderr = &bytes.Buffer{}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	return cmd
}

// kill kills a rebuild and tells whether it had not ended before.
func kill(cmd *exec.Cmd) bool {
	_ = cmd.Process.Kill()
	return cmd.Wait() != nil
}

// killAtRandom kills a rebuild at any moment of the time that one takes.
func (r *rebuilding) killAtRandom(takes time.Duration) bool {
	cmd := r.start()
	time.Sleep(time.Duration(r.random.Int64N(int64(takes))))
	return kill(cmd)
}

// killBetween kills a rebuild that has loaded its tables, committed them, and waits
// with the swap for somebody who reads.
func (r *rebuilding) killBetween() bool {
	r.t.Helper()
	reader := connect(r.t, r.url)
	tx, err := reader.Begin(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	defer tx.Rollback(r.t.Context())
	if _, err := tx.Exec(r.t.Context(), `SELECT FROM reputation_task_cohorts LIMIT 1`); err != nil {
		r.t.Fatal(err)
	}
	cmd := r.start()
	r.await("the rebuild waits with the swap", `SELECT count(*) = 2 FROM projection_rebuilds WHERE waits_for <> '' AND finished_at IS NULL`)
	time.Sleep(time.Duration(r.random.Int64N(int64(500 * time.Millisecond))))
	return kill(cmd)
}

// await waits until a query says so.
func (r *rebuilding) await(what, query string) {
	r.t.Helper()
	conn := connect(r.t, r.url)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		var done bool
		if err := conn.QueryRow(r.t.Context(), query).Scan(&done); err != nil || time.Now().After(deadline) {
			r.t.Fatalf("waited in vain: %s, error %v", what, err)
		}
		if done {
			return
		}
	}
}

// rebuild must succeed.
func (r *rebuilding) rebuild() {
	r.t.Helper()
	cmd := r.start()
	if err := cmd.Wait(); err != nil {
		r.t.Fatalf("rebuild: %v\n%s", err, cmd.Stderr)
	}
}

func (r *rebuilding) verify() {
	r.t.Helper()
	if stdout, stderr, err := cli(r.t, r.env, "verify"); err != nil || !strings.Contains(stdout, "everything stored is what the log says") {
		r.t.Fatalf("verify: %v\n%s%s", err, stdout, stderr)
	}
}

// A rebuild that is killed at any moment leaves the live rows right, while a server
// projects and answers, and the next one succeeds.
func TestRebuildKilled(t *testing.T) {
	t.Parallel()
	r := newRebuilding(t, 20_000, 400)
	stop := r.appendAll()
	begin := time.Now()
	r.rebuild()
	takes := time.Since(begin) * 4 / 5 // that it runs still at most of the moments
	killed := 0
	for n := range *kills {
		at := "at random"
		interrupted := false
		if n%4 == 1 {
			at = "between COPY and swap"
			interrupted = r.killBetween()
		} else {
			interrupted = r.killAtRandom(takes)
		}
		if interrupted {
			killed++
		}
		t.Logf("kill %d %s: interrupted %v", n+1, at, interrupted)
		r.verify()
		if n%2 == 1 { // else the next one clears up after several
			r.rebuild()
			r.verify()
		}
	}
	if killed == 0 {
		t.Error("no rebuild was interrupted: the test shows nothing")
	}
	r.rebuild()
	stop()
	r.verify()
	r.noTraces()
}

func (r *rebuilding) noTraces() {
	r.t.Helper()
	rows, err := connect(r.t, r.url).Query(r.t.Context(), `SELECT relname::text FROM pg_class WHERE relname LIKE '%\_rebuild' OR relname LIKE '%\_rebuild\_%' OR relname LIKE 'rebuild\_%'`)
	if err != nil {
		r.t.Fatal(err)
	}
	if left, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(left) > 0 {
		r.t.Errorf("left behind: %v, error %v", left, err)
	}
}

// An operator rebuilds through the server and polls, is refused a second time, and
// finds that SIGTERM stops a rebuild without harm.
func TestRebuildThroughServer(t *testing.T) {
	t.Parallel()
	r := newRebuilding(t, 5_000, 100)
	reader := connect(t, r.url)
	tx, err := reader.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM reputation_aggregates LIMIT 1`); err != nil {
		t.Fatal(err)
	}
	const path = "/api/admin/projections/all/rebuild"
	type view struct {
		State, Stage, Holder, Error string
		WaitsFor                    string `json:"waits_for"`
		Position                    int64
		Result                      map[string]struct{ NFTs int64 }
	}
	r.server.post(path, "", nil, http.StatusAccepted, nil)
	poll := func(until func(view) bool) (v view) {
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			v = view{}
			if r.server.get(path, http.StatusOK, &v); until(v) {
				return v
			}
		}
		t.Fatalf("the rebuild is at %+v", v)
		return v
	}
	waiting := poll(func(v view) bool { return v.WaitsFor != "" })
	if waiting.State != "running" || waiting.Stage != "swapping" || waiting.Position != 5_000 || !strings.Contains(waiting.Holder, "process") {
		t.Errorf("%+v", waiting)
	}
	var refused struct{ Error, Message string }
	r.server.post(path, "", nil, http.StatusConflict, &refused)
	if refused.Error != "rebuilding" || !strings.Contains(refused.Message, waiting.Holder) {
		t.Errorf("refused with %+v", refused)
	}
	_, stderr, err := cli(t, r.env, "rebuild", "cohorts")
	if err == nil || !strings.Contains(stderr, waiting.Holder) || !strings.Contains(stderr, "since 20") {
		t.Errorf("error %v, output %q", err, stderr)
	}

	if code := r.server.stop(); code != 0 {
		t.Fatalf("exit code %d after SIGTERM:\n%s", code, r.server.log)
	}
	r.server = serve(t, r.env)
	if v := poll(func(view) bool { return true }); v.State != "failed" || !strings.Contains(v.Error, "told to stop") {
		t.Errorf("%+v", v)
	}
	_ = tx.Rollback(t.Context())
	r.verify()
	r.noTraces()
	r.server.post(path, "", nil, http.StatusAccepted, nil)
	if v := poll(func(v view) bool { return v.State != "running" }); v.State != "done" || v.Result["cohorts"].NFTs == 0 || v.Result["aggregates"].NFTs == 0 {
		t.Errorf("%+v", v)
	}
	r.verify()
}

// verify ends with 1 when anything differs, names it, and two databases with the
// same log have the same digest.
func TestVerifyCommand(t *testing.T) {
	t.Parallel()
	first, second := newRebuilding(t, 1_000, 20), pgtest.URL(t)
	stdout := mustCLI(t, first.env, "verify")
	export := file(t, "log.ndjson", []byte(mustCLI(t, first.env, "export", "-")))
	other := []string{"DATABASE_URL=" + second}
	mustCLI(t, other, "import", export)
	behind := mustCLI(t, other, "verify")
	for _, part := range []string{
		"aggregates: verified at position 0, 1000 events are not projected yet\n", "cohorts: verified at position 0, 1000 events are",
		"everything stored is what the log says as far as it is projected; 1000 events are not projected yet: ",
	} {
		if !strings.Contains(behind, part) {
			t.Errorf("%q is missing from\n%s", part, behind)
		}
	}
	mustCLI(t, other, "rebuild")
	if imported := mustCLI(t, other, "verify"); imported != stdout || !strings.Contains(stdout, "digest: sha256:") || !strings.Contains(stdout, "log: 1000 events, sha256:") {
		t.Errorf("digests of one log:\n%s\n%s", stdout, imported)
	}
	if _, err := connect(t, second).Exec(t.Context(), `UPDATE reputation_aggregates SET state = 'x'`); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, err := cli(t, other, "verify")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(stdout, `reputation_aggregates agent:0: state: stored "x", computed "`) || !strings.Contains(stderr, "20 differences") {
		t.Errorf("error %v, output\n%s%s", err, stdout, stderr)
	}
	sampled, _, _ := cli(t, other, "verify", "--sample", "3", "--seed", "7")
	again, _, _ := cli(t, other, "verify", "--sample", "3", "--seed", "7")
	if sampled != again || strings.Count(sampled, `stored "x"`) != 3 || !strings.Contains(sampled, "--seed 7") {
		t.Errorf("samples:\n%s\n%s", sampled, again)
	}
	one, _, _ := cli(t, other, "verify", "--nft", "agent:4")
	if strings.Count(one, `stored "x"`) != 1 || strings.Contains(one, "digest:") {
		t.Errorf("one NFT:\n%s", one)
	}
	if _, stderr, err := cli(t, other, "verify", "--nft", "agent:4", "--sample", "3"); err == nil || !strings.Contains(stderr, "can't be used together") {
		t.Errorf("error %v, output %s", err, stderr)
	}
}
