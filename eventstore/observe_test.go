package eventstore_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/eventstore"
	"dixie/eventstore/eventstoretest"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

type (
	callerKey struct{} // of a caller's context
	batchKey  struct{} // of a batch's context
)

// batchLog is an observer that notes what it is told.
type batchLog struct {
	name string

	mu      sync.Mutex
	batches []observedBatch
	traced  []string // the batches in whose context statements were sent
}

type observedBatch struct {
	callers string
	events  int
	ended   int
	err     error
}

func (l *batchLog) BatchStarted(ctx context.Context, batch eventstore.Batch) (context.Context, func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := observedBatch{events: batch.Events}
	for _, caller := range batch.Callers {
		one.callers += fmt.Sprint(caller.Value(callerKey{}), " ")
	}
	l.batches = append(l.batches, one)
	n := len(l.batches) - 1
	return context.WithValue(ctx, batchKey{}, fmt.Sprint(ctx.Value(batchKey{}), l.name, n)), func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.batches[n].ended++
		l.batches[n].err = err
	}
}

// tracer notes in whose context the log writes.
func (l *batchLog) option(config *pgxpool.Config) { config.ConnConfig.Tracer = batchTracer{l} }

type batchTracer struct {
	*batchLog
}

func (t batchTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (t batchTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (t batchTracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.traced = append(t.traced, fmt.Sprint(ctx.Value(batchKey{})))
	return ctx
}

func (t batchTracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (t batchTracer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// TestObserver: every batch is told once with all its callers, written in the
// context that observers give it, and told to have ended before its callers are
// answered. A batch that is split is three.
func TestObserver(t *testing.T) {
	t.Parallel()
	a, b := &batchLog{name: "a"}, &batchLog{name: "b"}
	pool := pgtest.Pool(t, a.option)
	log := eventstore.OpenPostgres(pool, slog.New(slog.NewTextHandler(t.Output(), nil)), a, b)
	t.Cleanup(log.Close)
	release := holdLog(t, pool)
	appends := []*pending{stall(t, pool, log, eventstoretest.Entry("a", 0))}
	from := func(name string, entries ...reputation.Entry) {
		appends = append(appends, start(context.WithValue(t.Context(), callerKey{}, name), log, entries...))
		awaitQueue(t, log, len(appends)-1)
	}
	from("x", eventstoretest.Entries("a", 1, 3)...)
	from("y", eventstoretest.Raw(t, "a\x00b", `{}`)) // which PostgreSQL refuses
	release()
	for i, p := range appends {
		if _, err := p.wait(t); (err != nil) != (i == 2) {
			t.Errorf("append %d: %v", i, err)
		}
	}
	for _, l := range []*batchLog{a, b} {
		l.mu.Lock()
		defer l.mu.Unlock()
		want := []struct {
			callers string
			events  int
			failed  bool
		}{{"<nil> ", 1, false}, {"x y ", 4, true}, {"x ", 3, false}, {"y ", 1, true}}
		if len(l.batches) != len(want) {
			t.Fatalf("batches %+v", l.batches)
		}
		for i, w := range want {
			got := l.batches[i]
			if got.callers != w.callers || got.events != w.events || got.ended != 1 || (got.err != nil) != w.failed {
				t.Errorf("batch %d: %+v, want %+v", i, got, w)
			}
		}
	}
	// The second and the third observer's contexts are made of the first one's.
	want := []string{"<nil>a0b0", "<nil>a1b1", "<nil>a2b2", "<nil>a3b3"}
	if fmt.Sprint(a.traced) != fmt.Sprint(want) {
		t.Errorf("statements were sent in the contexts %v, want %v", a.traced, want)
	}
}

// TestImportObserve: what became of lines is told batch by batch, and adds up to
// the report.
func TestImportObserve(t *testing.T) {
	t.Parallel()
	var lines bytes.Buffer
	for n := range 2500 {
		fmt.Fprintf(&lines, `{"nft_id":"a","event":%s}`+"\n", eventstoretest.Event(n%2000).AppendJSON(nil))
	}
	lines.WriteString("no line\n")
	var told [3]int64
	calls := 0
	importer := eventstore.Importer{Log: eventstore.NewMemory(), Observe: func(appended, duplicates, rejected int64) {
		calls++
		told[0] += appended
		told[1] += duplicates
		told[2] += rejected
	}}
	report, err := importer.Import(t.Context(), &lines, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := [3]int64{report.Appended, report.Duplicates, report.Rejected}; told != want || want != [3]int64{2000, 500, 1} || calls != 3 {
		t.Errorf("told of %v in %d calls, reported %v", told, calls, want)
	}
}
