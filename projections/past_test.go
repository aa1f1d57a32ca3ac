package projections_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dixie/internal/pgtest"
	"dixie/reputation"
)

// shortLogs are random logs of which each prefix can be replayed.
var shortLogs = rapid.Custom(func(t *rapid.T) []reputation.Entry {
	var entries []reputation.Entry
	for n := range rapid.Int64Range(1, 25).Draw(t, "events") {
		entries = append(entries, drawEntry(t, n+1))
	}
	return entries
})

// TestPastMemory: as of each position the past is, to the last bit, a replay of the
// log up to there.
func TestPastMemory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := openMemory(slog.New(slog.DiscardHandler))
		b.AppendEntries(t, shortLogs.Draw(t, "log")...)
		stop := b.Project(t)
		b.Settle(t)
		stop()
		b.CheckPast(t, reputation.DefaultParams())
	})
}

// TestPastPostgres is the same with PostgreSQL. A log that fails here is found again
// by its seed.
func TestPastPostgres(t *testing.T) {
	t.Parallel()
	first := int(time.Now().UnixNano())
	for i := range 3 {
		t.Run(fmt.Sprint("seed ", first+i), func(t *testing.T) {
			t.Parallel()
			b, _ := openPostgres(t, pgtest.Pool(t))
			b.AppendEntries(t, shortLogs.Example(first+i)...)
			b.Project(t)
			b.Settle(t)
			b.CheckPast(t, reputation.DefaultParams())
		})
	}
}
