package faults_test

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// hearing hears what a test reports, and does not fail it.
type hearing struct {
	testing.TB
	mu    sync.Mutex
	heard []string
}

func (h *hearing) Errorf(format string, arguments ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, fmt.Sprintf(format, arguments...))
}

// TestReconcileNotices breaks each promise by hand, and the harness has to say so: or its
// silence would mean nothing.
func TestReconcileNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{servers: 1, seed: seedOf(t)})
	load := w.work(usual)
	time.Sleep(time.Second)
	load.end()
	w.reconcile()
	if t.Failed() {
		return
	}
	last := w.head()
	unlocked := func(statement string) func() {
		return func() {
			w.postgres.exec(t, w.database, `SET session_replication_role = replica`, statement)
		}
	}
	inLog := func() { w.reconcileLog() }
	lost := event{nft: "agent:1", id: "lost", json: `{"event_id":"11111111-1111-4111-8111-111111111111","n":1}`}
	for _, broken := range []struct {
		what   string
		hand   func()
		check  func()
		notice string
	}{
		{"an acknowledged event is missing", func() { w.ledger.send(lost); _ = w.ledger.stored(lost, last+1) }, inLog, `acknowledged at \d+ is not in the log`},
		{"an event is elsewhere", func() { w.ledger.find(w.rowAt(2)).position = 1 }, inLog, `acknowledged at 1 is at 2`},
		{"an event was refused", func() { w.ledger.find(w.rowAt(3)).refused = true }, inLog, `was refused is in the log at 3`},
		{"nobody sent an event", func() { delete(w.ledger.records, key(w.rowAt(4).event)) }, inLog, `position 4 has an event that nobody sent`},
		{"a client saw another event", func() { w.followed[4][0]++ }, inLog, `saw another event at 5`},
		{"an event's content changed", unlocked(`UPDATE reputation_events SET nft_id = 'agent:x' WHERE position = 6`), inLog, `position 6 has an event that nobody sent`},
		{"a row is another", unlocked(`UPDATE reputation_aggregates SET aggregate = jsonb_set(aggregate, '{sample_count}', '77') WHERE nft_id = 'agent:7'`), w.reconcileRows, `reputation_aggregates agent:7`},
		{"a failure is made up", unlocked(`INSERT INTO projection_failures (projection, position, nft_id, reason, detail) VALUES ('aggregates', 1000000, 'agent:8', 'unknown_type', '')`), func() { w.reconcileAside(w.reconcileLog()) }, `has set \d+ events aside, of`},
		{"a position is missing", unlocked(`UPDATE reputation_events SET position = position + 1 WHERE position = ` + fmt.Sprint(last)), inLog, `has position \d+ as its row`},
	} {
		heard := &hearing{TB: t}
		w.t = heard
		broken.hand()
		broken.check()
		w.t = t
		if !regexp.MustCompile(broken.notice).MatchString(strings.Join(heard.heard, "\n")) {
			t.Errorf("%s: the harness says %q", broken.what, heard.heard)
		}
		w.problems.Store(0)
	}
}

// rowAt is a row of the log.
func (w *world) rowAt(position int64) (found row) {
	w.eachRow(func(r row) {
		if r.position == position {
			found = r
		}
	})
	return found
}
