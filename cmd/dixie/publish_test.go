package main_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dixie/eventstore"
	"dixie/internal/natstest"
	"dixie/internal/pgtest"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// natsHealth is the part of the health that tells of publishing.
type natsHealth struct {
	Status         string
	Infrastructure struct {
		NATS struct{ Status, Detail string }
	}
	Projections map[string]struct {
		State          string
		Position, Head int64
		SetAside       int64 `json:"set_aside"`
	}
}

func (s *server) natsHealth() (h natsHealth) {
	s.t.Helper()
	s.get("/api/health", http.StatusOK, &h)
	return h
}

func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// With either setting missing nothing is dialled, and health says dormant. With
// both the same server dials, although there is no NATS.
func TestPublishingIsDormant(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var dialled atomic.Int64
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			dialled.Add(1)
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		accepting.Wait()
	})
	url := "NATS_URL=nats://" + listener.Addr().String()
	database := "DATABASE_URL=" + pgtest.EmptyURL(t)
	for _, env := range [][]string{
		{}, {url}, {url, "DIXIE_NATS_PUBLISH=false"}, {"DIXIE_NATS_PUBLISH=true"}, {"NATS_URL=", "DIXIE_NATS_PUBLISH=true"}, {database, url},
	} {
		s := serve(t, env)
		var report importReport
		s.post("/api/reputation/events", ndjson, bytes.NewReader(history(20, 50, 5)), http.StatusOK, &report)
		s.get(fmt.Sprintf("/api/reputation?limit=1&at_least=%d&wait=30s", report.Position), http.StatusOK, nil)
		eventually(t, "it is healthy", func() bool { return s.natsHealth().Status == "healthy" })
		if h := s.natsHealth(); h.Infrastructure.NATS.Status != "dormant" || len(h.Projections) != 2 {
			t.Errorf("%v: health %+v", env, h)
		}
		if code := s.stop(); code != 0 {
			t.Errorf("%v: exit code %d", env, code)
		}
	}
	if n := dialled.Load(); n != 0 {
		t.Errorf("%d connections although publishing is off", n)
	}
	s := serve(t, []string{url, "DIXIE_NATS_PUBLISH=true"})
	eventually(t, "it dials when it is switched on", func() bool { return dialled.Load() > 0 })
	if h := s.natsHealth(); h.Infrastructure.NATS.Status != "unreachable" {
		t.Errorf("health %+v", h)
	}
	s.get("/readyz", http.StatusOK, nil)
}

// streamed are the messages of the stream.
func streamed(t *testing.T, server *natstest.Server) []projectionstest.Sent {
	t.Helper()
	var got []projectionstest.Sent
	for _, m := range server.Messages("DIXIE") {
		header := m.Headers()
		sent, err := projectionstest.ReadSent(m.Subject(), header.Get("Nats-Msg-Id"), header.Get, m.Data())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, sent)
	}
	return got
}

// toPublish is what should be published of a file of events, in its order.
func toPublish(t *testing.T, lines []byte) []projectionstest.Sent {
	t.Helper()
	log := eventstore.NewMemory()
	for line := range bytes.Lines(lines) {
		nft, event, err := reputation.DecodeLine(bytes.TrimSpace(line))
		if err == nil {
			_, err = log.Append(t.Context(), reputation.NewEntry(nft, &event))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return projectionstest.Published(t, log, reputation.DefaultParams())
}

// A server publishes what is appended to it, in memory and on PostgreSQL. NATS may
// come late: nothing else waits for it.
func TestServePublishes(t *testing.T) {
	t.Parallel()
	lines := history(21, 500, 20)
	want := toPublish(t, lines)
	for name, env := range map[string][]string{"memory": nil, "postgres": {"DATABASE_URL=" + pgtest.EmptyURL(t)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := natstest.Start(t, natstest.WithUser("dixie", "hunter2"))
			server.Stop()
			url := strings.Replace(server.URL(), "://", "://dixie:hunter2@", 1)
			env := append(env, "NATS_URL="+url, "DIXIE_NATS_PUBLISH=true", "DIXIE_MAX_LAG=1ms", "DIXIE_NATS_MAX_AGE=2h")
			s := serve(t, env)
			var report importReport
			s.post("/api/reputation/events", ndjson, bytes.NewReader(lines), http.StatusOK, &report)
			s.get(fmt.Sprintf("/api/reputation?limit=1&at_least=%d&wait=30s", report.Position), http.StatusOK, nil)
			eventually(t, "NATS is unreachable", func() bool { return s.natsHealth().Projections["publisher"].State == "retrying" })
			h := s.natsHealth()
			if h.Infrastructure.NATS.Status != "unreachable" || h.Projections["publisher"].Position != 0 || h.Projections["publisher"].Head != 500 {
				t.Errorf("health %+v", h)
			}
			eventually(t, "it is ready although nothing is published", func() bool {
				response, _, err := s.do(http.MethodGet, "/readyz", "", nil)
				return err == nil && response.StatusCode == http.StatusOK
			})

			server.Start()
			eventually(t, "everything is published", func() bool { return s.natsHealth().Projections["publisher"].Position == 500 })
			projectionstest.SamePublished(t, want, streamed(t, server))
			eventually(t, "it is healthy", func() bool { return s.natsHealth().Status == "healthy" })
			if h := s.natsHealth(); h.Infrastructure.NATS.Status != "connected" || h.Infrastructure.NATS.Detail != "" {
				t.Errorf("health %+v", h)
			}
			if strings.Contains(s.log.String(), "hunter2") {
				t.Errorf("the log has the password:\n%s", s.log)
			}
			if code := s.stop(); code != 0 {
				t.Errorf("exit code %d:\n%s", code, s.log)
			}
		})
	}
}

// A server whose stream has settings of someone else says so in its health.
func TestServeReportsTheStream(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	env := []string{"NATS_URL=" + server.URL(), "DIXIE_NATS_PUBLISH=true"}
	s := serve(t, env)
	eventually(t, "the stream is there", func() bool { return s.natsHealth().Infrastructure.NATS.Status == "connected" })
	s.stop()
	s = serve(t, append(env, "DIXIE_NATS_MAX_AGE=1h"))
	want := "stream DIXIE has other settings than configured: max_age"
	eventually(t, "the difference is told", func() bool { return s.natsHealth().Infrastructure.NATS.Detail == want })
	s.stop()
	s = serve(t, append(env, "DIXIE_NATS_STREAM=OTHER"))
	eventually(t, "the overlap is told", func() bool {
		h := s.natsHealth()
		return h.Infrastructure.NATS.Status == "misconfigured" && h.Infrastructure.NATS.Detail == "another stream than OTHER takes its subjects" &&
			h.Status == "degraded"
	})
	s.get("/readyz", http.StatusOK, nil)
}

// A server that is killed while it publishes is followed by one that goes on: the
// stream has everything once.
func TestKilledWhilePublishing(t *testing.T) {
	t.Parallel()
	const events = 4000
	lines := history(22, events, 300)
	server := natstest.Start(t)
	env := []string{"DATABASE_URL=" + pgtest.URL(t), "NATS_URL=" + server.URL(), "DIXIE_NATS_PUBLISH=true"}
	mustCLI(t, env, "import", file(t, "history.ndjson", lines))
	for attempt := range 3 {
		s := serve(t, env)
		eventually(t, "something is published", func() bool { return server.Stored("DIXIE") >= 300*(1+2*attempt) })
		s.kill()
	}
	if server.Stored("DIXIE") >= events {
		t.Fatal("no server was killed while it published: the test shows nothing")
	}
	s := serve(t, env)
	eventually(t, "everything is published", func() bool { return s.natsHealth().Projections["publisher"].Position == events })
	projectionstest.SamePublished(t, toPublish(t, lines), streamed(t, server))
	s.stop()

	// Switched off again, health and status remember how far it came, and nobody waits.
	s = serve(t, env[:1])
	eventually(t, "it is healthy", func() bool { return s.natsHealth().Status == "healthy" })
	if h := s.natsHealth(); h.Projections["publisher"].State != "dormant" {
		t.Errorf("health %+v", h)
	}
	if out := mustCLI(t, env[:1], "status"); !regexp.MustCompile(`publisher +stopped +1 +4000 +4000 +0 `).MatchString(out) {
		t.Errorf("status\n%s", out)
	}
}

// What is not published is told like what is not folded.
func TestNotPublished(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	database := pgtest.URL(t)
	env := []string{"DATABASE_URL=" + database, "NATS_URL=" + server.URL(), "DIXIE_NATS_PUBLISH=true"}
	s := serve(t, env)
	_, err := connect(t, database).Exec(t.Context(),
		`INSERT INTO reputation_events (nft_id, event_type, event) VALUES ('bear-1', 'quality_signal', '{"type":"quality_signal"}')`)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the row is set aside", func() bool {
		h := s.natsHealth()
		return h.Projections["publisher"].SetAside == 1 && h.Projections["cohorts"].SetAside == 1
	})
	if n := server.Stored("DIXIE"); n != 0 {
		t.Errorf("%d messages", n)
	}
	if out := mustCLI(t, env, "failures", "list", "publisher"); !regexp.MustCompile(`(?m)^ +1 +bear-1 +invalid_event +`).MatchString(out) {
		t.Errorf("list\n%s", out)
	}
	var told struct {
		Failures []struct {
			Position int64
			Reason   string
		}
	}
	s.get("/api/projections/publisher/failures", http.StatusOK, &told)
	if len(told.Failures) != 1 || told.Failures[0].Position != 1 || told.Failures[0].Reason != "invalid_event" {
		t.Errorf("failures %+v", told)
	}
	if out := mustCLI(t, env, "failures", "show", "1"); !strings.Contains(out, `"projection": "publisher"`) {
		t.Errorf("show\n%s", out)
	}
}

// dixie publish sends a part of the log, and tells what it sent.
func TestPublishCommand(t *testing.T) {
	t.Parallel()
	lines := history(23, 300, 10)
	all := toPublish(t, lines)
	server := natstest.Start(t)
	database := pgtest.URL(t)
	env := []string{"DATABASE_URL=" + database, "NATS_URL=" + server.URL()}
	mustCLI(t, env, "import", file(t, "history.ndjson", lines))
	if out := mustCLI(t, env, "status"); strings.Contains(out, "publisher") {
		t.Errorf("status without publishing\n%s", out)
	}
	if out := mustCLI(t, append(env, "DIXIE_NATS_PUBLISH=true"), "status"); !regexp.MustCompile(`publisher +stopped +- +0 +300 +300 `).MatchString(out) {
		t.Errorf("status when it is switched on\n%s", out)
	}

	out := mustCLI(t, env, "publish", "--from", "101", "--until", "150")
	part := within(all, 101, 150)
	projectionstest.SamePublished(t, part, streamed(t, server))
	want := fmt.Sprintf("50 events and %d changes of state sent to stream DIXIE, 0 rows that are no events left out\n", len(part)-50)
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	_, stderr, err := cli(t, env, "publish", "--from=51")
	if err != nil || !strings.Contains(stderr, "publish: positions 51 to 300") {
		t.Errorf("error %v, output %s", err, stderr)
	}
	// What came before is not there twice, and the rest came after it.
	got := streamed(t, server)
	projectionstest.SamePublished(t, part, got[:len(part)])
	projectionstest.SamePublished(t, append(within(all, 51, 100), within(all, 151, 300)...), got[len(part):])
	var checkpoints int
	if err := connect(t, database).QueryRow(t.Context(),
		`SELECT count(*) FROM projection_checkpoints`).Scan(&checkpoints); err != nil || checkpoints != 0 {
		t.Errorf("%d checkpoints, error %v", checkpoints, err)
	}
}

func within(all []projectionstest.Sent, from, until int64) (part []projectionstest.Sent) {
	for _, m := range all {
		if m.Position >= from && m.Position <= until {
			part = append(part, m)
		}
	}
	return part
}

func TestPublishCommandRefuses(t *testing.T) {
	t.Parallel()
	env := migrated(t)
	mustCLI(t, env, "import", file(t, "history.ndjson", history(24, 10, 2)))
	for want, run := range map[string]struct {
		env  []string
		args []string
	}{
		"no NATS server is configured: set NATS_URL": {env, []string{"--from=1"}},
		"no database is configured":                  {[]string{"NATS_URL=nats://127.0.0.1:1"}, []string{"--from=1"}},
		"missing flags: --from":                      {env, nil},
		"1 to 10, in this order; found 11 and 10":    {append(env, "NATS_URL=nats://127.0.0.1:1"), []string{"--from=11"}},
		"1 to 10, in this order; found 0 and 10":     {append(env, "NATS_URL=nats://127.0.0.1:1"), []string{"--from=0"}},
		"1 to 10, in this order; found 3 and 2":      {append(env, "NATS_URL=nats://127.0.0.1:1"), []string{"--from=3", "--until=2"}},
		"1 to 10, in this order; found 3 and 11":     {append(env, "NATS_URL=nats://127.0.0.1:1"), []string{"--from=3", "--until=11"}},
		"NATS is unreachable":                        {append(env, "NATS_URL=nats://dixie:hunter2@127.0.0.1:1"), []string{"--from=3"}},
		"NATS URL: server 1 is not such as":          {append(env, "NATS_URL=nats://dixie:hunter2%zz@127.0.0.1:1"), []string{"--from=3"}},
		"the replicas must be 1 to 5, found 9":       {append(env, "NATS_URL=nats://127.0.0.1:1", "DIXIE_NATS_REPLICAS=9"), []string{"--from=3"}},
	} {
		_, stderr, err := cli(t, run.env, append([]string{"publish"}, run.args...)...)
		if err == nil || !strings.Contains(stderr, want) || strings.Contains(stderr, "hunter2") {
			t.Errorf("error %v, output %q, want %q", err, stderr, want)
		}
	}
}
