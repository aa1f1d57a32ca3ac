package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"dixie/internal/pgtest"
	"dixie/projections"
)

// reconcile compares what clients were told with what the log and the projections
// hold. Nothing is broken any more, and all clients have ended.
func (w *world) reconcile() {
	w.t.Helper()
	w.ended.Store(true)
	w.settle()
	for _, s := range w.servers {
		if found := s.disaster(); found != "" {
			w.errorf("%s logged:\n%s", s.name, found)
		}
	}
	garbage := w.reconcileLog()
	w.reconcileAside(garbage)
	w.reconcileRows()
	if w.upstreams != nil {
		w.reconcilePublished()
	}
	var table strings.Builder
	w.counts.print(&table)
	w.t.Logf("seed %d\n%s", w.seed, table.String())
}

// settle stops the servers when all is projected and published. One that stops still
// stores what chats have told, and nobody projects what comes last: then they are
// started once more. What chats told is stored by then.
func (w *world) settle() {
	for range 2 {
		w.awaitProjections()
		if w.upstreams != nil {
			w.awaitPublished()
		}
		w.eachServer(func(s *server) {
			if err := s.stop(); err != nil {
				w.errorf("%v", err)
			}
		})
		behind := w.behind()
		if behind == 0 {
			return
		}
		w.t.Logf("the servers have stored events while they stopped, of which the projections lack up to %d", behind)
		w.eachServer(func(s *server) {
			if err := s.start(context.Background()); err != nil {
				w.errorf("%v", err)
			}
		})
	}
	w.errorf("servers that have nothing to store have stored events while they stopped")
}

// behind is how many events are missing in the projection that lacks most.
func (w *world) behind() (events int64) {
	conn := w.postgres.connect(w.t, w.database)
	defer closeConn(conn)
	err := conn.QueryRow(context.Background(), `
		SELECT coalesce(max(position), 0) - (SELECT coalesce(min(position), 0) FROM projection_checkpoints WHERE projection <> 'publisher' OR $1)
		  FROM reputation_events`, w.upstreams != nil).Scan(&events)
	if err != nil {
		w.t.Fatal(err)
	}
	return events
}

// projectionPatience is how long the projections may take to catch up.
const projectionPatience = 60 * time.Second

// awaitProjections waits until every server answers from the end of the log.
func (w *world) awaitProjections() {
	c := w.newClient(1 << 20)
	defer c.http.CloseIdleConnections()
	for _, s := range w.servers {
		deadline, last := time.Now().Add(projectionPatience), answer{}
		for time.Now().Before(deadline) {
			head := c.do(context.Background(), s, http.MethodGet, "/api/reputation/events?limit=1", "", "")
			if last = head; head.ok() {
				last = c.do(context.Background(), s, http.MethodGet, fmt.Sprintf("/api/reputation/agent:0?at_least=%d&wait=%s", head.position, patient), "", "")
				if last.ok() {
					break
				}
			}
			time.Sleep(retryPause)
		}
		if !last.ok() {
			w.errorf("%s: the projections do not reach the end of the log: %d %v %s\n%s", s.name, last.status, last.err, last.body, w.health(c, s))
		}
	}
}

func (w *world) health(c *client, s *server) []byte {
	return c.do(context.Background(), s, http.MethodGet, "/api/health", "", "").body
}

// reconcileLog goes through the log and the ledger, and returns how many rows the log
// has that no fold accepts.
func (w *world) reconcileLog() (garbage int64) {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	at := map[*fate]int64{}
	w.counts.logged = 0
	w.eachRow(func(r row) {
		w.counts.logged++
		if r.position != w.counts.logged {
			w.errorf("the log has position %d as its row %d", r.position, w.counts.logged)
		}
		f := w.ledger.find(r)
		if f == nil {
			w.errorf("position %d has an event that nobody sent: %.300s", r.position, r.event)
			return
		}
		if before, twice := at[f]; twice {
			w.errorf("an event is in the log twice, at %d and %d: %.300s", before, r.position, r.event)
		}
		at[f] = r.position
		w.compareFollowed(r, f)
		if f.garbage {
			garbage++
		}
	})
	if len(w.followed) > int(w.counts.logged) {
		w.errorf("a client saw %d events, and the log has %d", len(w.followed), w.counts.logged)
	}
	for _, record := range w.ledger.records {
		w.reconcileRecord(record, at)
	}
	w.counts.sent, w.counts.told = w.ledger.sent, w.ledger.told
	return garbage
}

// eachRow reads the log, in its order.
func (w *world) eachRow(do func(row)) {
	conn := w.postgres.connect(w.t, w.database)
	defer closeConn(conn)
	rows, err := conn.Query(context.Background(), `SELECT position, nft_id, event FROM reputation_events ORDER BY position`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.position, &r.nft, &r.event); err != nil {
			w.t.Fatal(err)
		}
		do(r)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
}

// compareFollowed compares a row with what the follower saw there.
func (w *world) compareFollowed(r row, f *fate) {
	if r.position <= int64(len(w.followed)) && w.followed[r.position-1] != f.hash {
		w.errorf("a client saw another event at %d than is there now: %.300s", r.position, r.event)
	}
}

// reconcileRecord compares what was told of an id with where its events are.
func (w *world) reconcileRecord(r *record, at map[*fate]int64) {
	stored := 0
	for _, f := range r.contents {
		position, found := at[f]
		if found {
			stored++
		}
		switch {
		case f.stored && !found:
			w.errorf("an event that was acknowledged at %d is not in the log", f.position)
		case f.stored && f.position > 0 && f.position != position:
			w.errorf("an event that was acknowledged at %d is at %d", f.position, position)
		case f.refused && found:
			w.errorf("an event that was refused is in the log at %d", position)
		}
	}
	if stored > 1 {
		w.errorf("%d contents of one id are in the log", stored)
	}
}

// reconcileAside checks that what no fold accepts was set aside, and is reported.
func (w *world) reconcileAside(garbage int64) {
	conn := w.postgres.connect(w.t, w.database)
	defer closeConn(conn)
	for _, name := range []string{"aggregates", "cohorts"} {
		var aside int64
		if err := conn.QueryRow(context.Background(), `SELECT count(*) FROM projection_failures WHERE projection = $1`, name).Scan(&aside); err != nil {
			w.t.Fatal(err)
		}
		if aside != garbage {
			w.errorf("%s has set %d events aside, of %d that no fold accepts", name, aside, garbage)
		}
	}
	var told []struct {
		Projection string
		SetAside   int64 `json:"set_aside"`
	}
	w.decodeStatus(mustCLI(w.t, w.postgres.serviceURL(w.database, ""), "status", "--json"), &told)
	for _, p := range told {
		if p.Projection != projections.Publisher && p.SetAside != garbage {
			w.errorf("the status tells of %d events that were set aside, and not of %d", p.SetAside, garbage)
		}
	}
}

func (w *world) decodeStatus(text string, told any) {
	status := struct {
		Projections any `json:"projections"`
	}{told}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		w.errorf("status: %v: %s", err, text)
	}
}

// reconcileRows verifies the database, and compares it with a fresh one that has the
// exported log.
func (w *world) reconcileRows() {
	url := w.postgres.serviceURL(w.database, "")
	want := w.digests(url)
	export := filepath.Join(w.t.TempDir(), "log.ndjson.gz")
	fresh := pgtest.URL(w.t)
	if !w.command(url, "export", export) || !w.command(fresh, "import", "--keep-invalid", export) || !w.command(fresh, "rebuild") {
		return
	}
	if got := w.digests(fresh); got != want {
		w.errorf("a fresh database with the exported log differs:\n%s\n%s", want, got)
	}
}

// command runs a command of the service, which should succeed.
func (w *world) command(url string, arguments ...string) (ok bool) {
	stdout, stderr, err := cli(url, arguments...)
	if err != nil {
		w.errorf("dixie %s: %v\n%s%s", strings.Join(arguments, " "), err, stdout, stderr)
	}
	return err == nil
}

var digestLines = regexp.MustCompile(`(?m)^(digest|log): .*$`)

// digests verifies a database and returns the digests of its rows and of its log.
func (w *world) digests(url string) string {
	stdout, stderr, err := cli(url, "verify")
	if err != nil {
		w.errorf("verify: %v\n%s%s", err, stdout, stderr)
	}
	return strings.Join(digestLines.FindAllString(stdout, -1), "\n")
}
