package projections_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dixie/internal/pgtest"
	"dixie/projections"
	"dixie/projections/projectionstest"
	"dixie/reputation"
)

// chapter is part of a history: events that are appended while projectors with a
// page size run, and how many of them the projectors have at least folded when
// they are stopped. With a page size of 0 none run.
type chapter struct {
	entries  []reputation.Entry
	pageSize int
	folded   int64
}

var (
	pageSizes = rapid.SampledFrom([]int{0, 1, 2, 3, 7, 1000})
	scores    = rapid.OneOf(rapid.Float64Range(0, 1), rapid.SampledFrom([]float64{0, 1, 0.1, 1.0 / 3, 1e-7, 1 - 0x1p-53}))
	models    = rapid.SampledFrom([]string{"native", "gpt-4o", "É \"\\\u2028", "z"})
	tasks     = rapid.SampledFrom([]reputation.TaskType{"", "analysis", "general", "unspecified", "a-guild:fishing"})
	nfts      = rapid.SampledFrom([]string{"a", "B", "b", "c:1", "a", "B", "b", "c.1", "_", "no id"})
	garbage   = rapid.SampledFrom([]string{`{}`, `[]`, `null`, `"text"`, `1e-7`, `{"type":"mystery"}`, `{"score":"0.5"}`})
)

// histories are random logs. Few NFTs and kinds of tasks meet often.
var histories = rapid.Custom(func(t *rapid.T) []chapter {
	var n int64
	var chapters []chapter
	for range rapid.IntRange(2, 6).Draw(t, "chapters") {
		c := chapter{pageSize: pageSizes.Draw(t, "page size")}
		for range rapid.IntRange(8, 30).Draw(t, "events") {
			n++
			c.entries = append(c.entries, drawEntry(t, n))
		}
		c.folded = rapid.Int64Range(0, int64(len(c.entries))).Draw(t, "folded")
		chapters = append(chapters, c)
	}
	return chapters
})

// drawEntry makes the n-th event of a log: one in ten is no event, and one in ten
// of the others may name another collection than the NFT's.
func drawEntry(t *rapid.T, n int64) reputation.Entry {
	nft := nfts.Draw(t, "nft")
	if rapid.IntRange(1, 10).Draw(t, "garbage") == 10 {
		return projectionstest.Raw(t, nft, garbage.Draw(t, "value"))
	}
	collection := "honey"
	if (strings.Compare(nft, "b") < 0) != (rapid.IntRange(1, 10).Draw(t, "collection") == 10) {
		collection = "mead é\u2028"
	}
	return reputation.NewEntry(nft, &reputation.Event{
		ID: projectionstest.ID(n), AgentID: "agent", CollectionID: collection,
		Timestamp: drawTime(t), Body: drawBody(t),
	})
}

// drawTime is in no order, and not always spelled alike.
func drawTime(t *rapid.T) reputation.Timestamp {
	seconds := rapid.Int64Range(0, 1000).Draw(t, "seconds")
	text := time.Unix(1_770_000_000+seconds, 0).UTC().Format("2006-01-02T15:04:05") +
		rapid.SampledFrom([]string{"Z", ".000Z", ".5+00:00", "+05:45"}).Draw(t, "spelling")
	timestamp, err := reputation.ParseTimestamp(text)
	if err != nil {
		t.Fatal(err)
	}
	return timestamp
}

func drawBody(t *rapid.T) reputation.Body {
	task := tasks.Draw(t, "task")
	switch rapid.IntRange(0, 11).Draw(t, "kind") {
	case 0:
		return reputation.ReputationReset{Reason: "appeal", Actor: "admin"}
	case 1:
		return reputation.TaskCompleted{TaskType: "general", Success: rapid.Bool().Draw(t, "success")}
	case 2:
		return reputation.CredentialUpdate{CredentialID: projectionstest.ID(rapid.Int64Range(1, 3).Draw(t, "credential")), Action: "issued"}
	case 3, 4, 5, 6, 7:
		return reputation.QualitySignal{Score: scores.Draw(t, "score"), TaskType: task, Dimensions: drawDimensions(t)}
	}
	if task == "" {
		task = "general"
	}
	return reputation.ModelPerformance{
		ModelID: models.Draw(t, "model"), Provider: "p", PoolID: models.Draw(t, "pool"), TaskType: task,
		Observation: reputation.QualityObservation{
			Score: scores.Draw(t, "score"), Dimensions: drawDimensions(t), EvaluatedBy: models.Draw(t, "judge"),
		},
	}
}

func drawDimensions(t *rapid.T) reputation.Dimensions {
	var dimensions reputation.Dimensions
	for _, name := range []string{"accuracy", "coherence"} {
		if rapid.Bool().Draw(t, name) {
			dimensions = append(dimensions, reputation.Dimension{Name: name, Score: scores.Draw(t, name+" score")})
		}
	}
	return dimensions
}

// play appends a history while projectors come and go, and lets the last ones
// finish.
func play(t projectionstest.TB, b projectionstest.Backend, history []chapter) {
	t.Helper()
	for _, c := range history {
		start := b.Head(t)
		stop := func() {}
		if c.pageSize > 0 {
			stop = projectionstest.Run(t, b.Projectors(reputation.DefaultParams(), c.pageSize)...)
		}
		for part := range slices.Chunk(c.entries, 10) {
			b.AppendEntries(t, part...)
		}
		if c.pageSize > 0 {
			b.Await(t, start+c.folded, projections.Names...)
		}
		stop()
	}
	stop := projectionstest.Run(t, b.Projectors(reputation.DefaultParams(), 4)...)
	b.Settle(t)
	stop()
}

// TestDeterminismMemory: however the log was cut into pages and often the
// projectors were stopped, the rows are those of one pass over the log.
func TestDeterminismMemory(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := openMemory(slog.New(slog.DiscardHandler))
		play(t, b, histories.Draw(t, "history"))
		want := projectionstest.Fold(t, b.Log, reputation.DefaultParams())
		projectionstest.Same(t, want, b.Rows(t))
		checkReplay(t, b, want)
	})
}

// checkReplay: a replay, too, gives these rows.
func checkReplay(t projectionstest.TB, b projectionstest.Backend, want projectionstest.Rows) {
	t.Helper()
	events, err := b.Log.Read(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	replay := projections.NewReplay(reputation.DefaultParams())
	for i := range events {
		if event, err := events[i].Event(); err == nil {
			_ = replay.Apply(events[i].NFT, &event) // set aside, as all have checked
		}
	}
	got := projectionstest.NewRows()
	for _, nft := range replay.NFTs() {
		got.AddAgent(t, nft, replay.Agent(nft), replay.Cohorts(nft))
	}
	got.Collections, got.Failures = want.Collections, want.Failures // of which it tells nothing
	projectionstest.Same(t, want, got)
}

// TestDeterminismPostgres is the same with PostgreSQL, where also every column is
// compared, and compares it with memory. A history that fails here is found again
// by its seed.
func TestDeterminismPostgres(t *testing.T) {
	t.Parallel()
	first := int(time.Now().UnixNano())
	for i := range 6 {
		t.Run(fmt.Sprint("seed ", first+i), func(t *testing.T) {
			t.Parallel()
			history := histories.Example(first + i)
			pool := pgtest.Pool(t)
			b := openCatchingUp(t, pool, int64(i/2*3)) // never, often, and now and then
			play(t, b, history)
			want := projectionstest.Fold(t, b.Log, reputation.DefaultParams())
			projectionstest.Same(t, want, b.Rows(t))
			projectionstest.Same(t, want, readTables(t, pool))
			checkPositions(t, pool)

			m := openMemory(slog.New(slog.DiscardHandler))
			play(t, m, history)
			projectionstest.Same(t, want, m.Rows(t))
		})
	}
}
