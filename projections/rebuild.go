package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/eventstore"
	"dixie/reputation"
)

const (
	// rebuildSettings make PostgreSQL end the session of a rebuild that is paused or
	// cut off, and with the session its locks: also when it is making an index, on
	// systems where PostgreSQL can notice. A living rebuild speaks every tellInterval,
	// or has a statement running, which no timeout ends.
	rebuildSettings = `
		SET idle_session_timeout = '60s';
		SET idle_in_transaction_session_timeout = '60s';
		SET statement_timeout = 0;
		SET lock_timeout = '10s';
		SET plan_cache_mode = force_custom_plan;
		DO $$
		BEGIN
			PERFORM set_config('client_connection_check_interval', '1s', false);
		EXCEPTION WHEN invalid_parameter_value THEN
		END
		$$`

	// tellInterval is how often the position of a rebuild is written.
	tellInterval = time.Second

	// A rebuild catches up with the log until it is so few events behind, in at most
	// so many rounds: what is left is folded while the live projector waits.
	fewEvents  = 200
	mostRounds = 10

	// checkpointWait is how long the swap waits for the page that the live projector
	// is writing. Nobody else waits meanwhile.
	checkpointWait = 5 * time.Second

	// The swap waits for its tables from leastLockWait to mostLockWait, and those who
	// want to read them wait behind it. It must give up before any of them has waited
	// for PostgreSQL's deadlock_timeout, or a reader of two tables could be the one
	// that is cancelled.
	leastLockWait = 50 * time.Millisecond
	mostLockWait  = 500 * time.Millisecond

	// mostBackoff is the longest pause between attempts to swap.
	mostBackoff = 2 * time.Second

	// complainInterval is how often the log tells that the swap still waits.
	complainInterval = time.Minute

	// abandonTimeout bounds the clearing up after a failure, and how long a commit
	// may take still when the rebuild was told to stop.
	abandonTimeout = 10 * time.Second
)

// RebuildConfig says what to rebuild.
type RebuildConfig struct {
	Projections []string // all when empty
	Params      reputation.Params
	// Progress is told how many events have been folded and how many there are; it
	// may be nil. The second grows while events are appended.
	Progress func(done, head int64)
	Logger   *slog.Logger // slog.Default() when nil
	// Holder is shown to whoever asks who rebuilds; empty is this host and process.
	Holder string
	// Processors is how many of them decode and fold at a time; 0 means all. A server
	// that answers requests keeps one for them: with all busy, Go looks for what has
	// come from the network only every 10 ms.
	Processors int
	// Rest is how long each of them rests when it has decoded or folded some events or
	// loaded some rows, as a multiple of the time that it took; 0 means not at all. The
	// sessions of the database that send the log and take the rows rest with them.
	Rest float64

	hook func(stage string) error // of tests
}

// Rebuilt is a projection that was rebuilt.
type Rebuilt struct {
	Projection string
	Position   int64 // of the last event in it
	NFTs       int64 // that have rows
	SetAside   int64 // events
	// Locked is how long nobody could read the rows, at the moment of the exchange.
	Locked time.Duration
}

// errDrifted says that a live table was altered while it was being rebuilt.
var errDrifted = errors.New("a live table was altered")

// Rebuild folds the log anew into tables beside the live ones and puts them in
// their place, all projections that are asked for at once. Reads, appends and live
// projectors go on, of this process and of others: readers wait for the moment of
// the swap, and the projectors begin a new term after it, with the new version
// if that has changed. A rebuild does not need a projector.
//
// The error is a [*RebuildingError] while another one rebuilds, and an
// [*ObstacleError] if the swap would break what others have attached to a table.
// Readers that hold a table for long delay the swap until ctx ends. After any
// error, and when the process is killed, live rows are what they were; what is
// left of the tables beside them is removed at once or by the next rebuild.
//
// Memory is bounded by the number of agents, not of events: about 1 KiB for each,
// and more for those with very many models, tasks or credentials.
func (p *Postgres) Rebuild(ctx context.Context, config RebuildConfig) ([]Rebuilt, error) {
	r, err := p.newRebuild(ctx, config)
	if err != nil {
		return nil, err
	}
	return p.rebuild(ctx, r)
}

// rebuild runs a rebuild that holds its locks.
func (p *Postgres) rebuild(ctx context.Context, r *rebuild) ([]Rebuilt, error) {
	defer r.close()
	done, err := r.run(ctx)
	if err != nil {
		r.abandon(ctx, p, err)
		return nil, err
	}
	for _, one := range done {
		p.progress.report(one.Projection, one.Position)
	}
	return done, nil
}

// rebuild is a run of [Postgres.Rebuild]. All is written through the connection
// that holds the locks: whoever loses the locks has lost the means to write. Only
// tables that are loaded apart are not, and have a lock of their own.
type rebuild struct {
	RebuildConfig
	conn    *pgx.Conn
	log     *logReader
	shadows []shadow
	pairs   map[string]pair // by name of the live table
	tables  []pair          // in the order in which they are locked
	schema  string          // of the live failures

	stage      reputation.RebuildStage
	at, head   int64     // folded, and of the log as it was read last
	told       time.Time // when at was written last
	locked     time.Duration
	swapping   bool      // in the transaction of the swap
	waitsFor   string    // the session that keeps the tables from being exchanged
	complained time.Time // when the log was told last that the swap waits
}

func (p *Postgres) newRebuild(ctx context.Context, config RebuildConfig) (*rebuild, error) {
	r := &rebuild{RebuildConfig: config.complete(), pairs: map[string]pair{}, stage: reputation.StageFolding}
	for _, name := range r.Projections {
		if !slices.Contains(Names, name) {
			return nil, fmt.Errorf("there is no projection %q", name)
		}
		r.shadows = append(r.shadows, newShadow(name, r.Params))
	}
	var err error
	if r.conn, err = p.claim(ctx, r.RebuildConfig); err != nil {
		return nil, err
	}
	reader, err := p.pool.Acquire(ctx)
	if err != nil {
		r.close()
		return nil, unavailable("connect", err)
	}
	if r.log, err = newLogReader(ctx, reader.Hijack()); err != nil {
		r.close()
		return nil, err
	}
	r.log.effort = effort{processors: r.Processors, rest: r.Rest}
	return r, nil
}

func (c RebuildConfig) complete() RebuildConfig {
	c.Projections = slices.Compact(slices.Sorted(slices.Values(c.Projections)))
	if len(c.Projections) == 0 {
		c.Projections = Names
	}
	if c.Progress == nil {
		c.Progress = func(int64, int64) {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Holder == "" {
		c.Holder = thisProcess()
	}
	if c.hook == nil {
		c.hook = func(string) error { return nil }
	}
	return c
}

func (r *rebuild) close() {
	releaseRebuilds(r.conn)
	if r.log != nil {
		closeConn(r.log.conn)
	}
}

func (r *rebuild) run(ctx context.Context) ([]Rebuilt, error) {
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if err := r.foldLog(ctx); err != nil {
		return nil, err
	}
	if err := r.enter(ctx, reputation.StageLoading); err != nil {
		return nil, err
	}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	if err := r.enter(ctx, reputation.StageSwapping); err != nil {
		return nil, err
	}
	return r.finish(ctx)
}

// enter begins a stage.
func (r *rebuild) enter(ctx context.Context, stage reputation.RebuildStage) error {
	r.stage = stage
	if err := r.tellNow(ctx); err != nil {
		return err
	}
	return r.hook(string(stage))
}

// prepare clears what a killed rebuild has left, and finds out what would be in
// the way before the work and not after it.
func (r *rebuild) prepare(ctx context.Context) error {
	failures, err := findPair(ctx, r.conn, failuresTable)
	if err != nil {
		return err
	}
	r.schema = failures.schema
	for _, s := range r.shadows {
		for _, name := range s.live() {
			p, err := findPair(ctx, r.conn, name)
			if err != nil {
				return err
			}
			r.pairs[name], r.tables = p, append(r.tables, p)
			if err := p.check(ctx, r.conn); err != nil {
				return err
			}
			if err := p.checkValues(ctx, r.conn); err != nil {
				return err
			}
		}
	}
	if err := r.clear(ctx, r.conn); err != nil {
		return err
	}
	for _, s := range r.shadows {
		_, err := r.conn.Exec(ctx, `CREATE TABLE `+s.setAside().collecting(r.schema).Sanitize()+
			` (LIKE `+failures.live()+` INCLUDING DEFAULTS)`)
		if err != nil {
			return unavailable("make a table for failures", err)
		}
	}
	if err := r.rehearse(ctx); err != nil {
		return err
	}
	return r.hook("prepared")
}

// rehearse makes the shadows and drops them again.
func (r *rebuild) rehearse(ctx context.Context) error {
	return r.transact(ctx, func(tx pgx.Tx) error {
		for _, p := range r.tables {
			if err := p.create(ctx, tx); err != nil {
				return err
			}
		}
		return errRollback
	})
}

// clear drops the tables of a rebuild.
func (r *rebuild) clear(ctx context.Context, conn *pgx.Conn) error {
	statements := ""
	for _, p := range r.tables {
		statements += "DROP TABLE IF EXISTS " + p.shadow() + ";"
	}
	for _, s := range r.shadows {
		statements += "DROP TABLE IF EXISTS " + s.setAside().collecting(r.schema).Sanitize() + ";"
	}
	_, err := conn.PgConn().Exec(ctx, statements).ReadAll()
	return unavailable("clear what a rebuild left", err)
}

func (r *rebuild) beside(live string) string { return r.pairs[live].shadow() }

// errRollback ends a transaction whose work is not wanted.
var errRollback = errors.New("rollback")

// transact runs work in a transaction, which it commits even if ctx ends then:
// nobody could tell whether it was.
func (r *rebuild) transact(ctx context.Context, work func(tx pgx.Tx) error) error {
	return transact(ctx, r.conn, work)
}

func transact(ctx context.Context, conn *pgx.Conn, work func(tx pgx.Tx) error) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return unavailable("begin", err)
	}
	if err := work(tx); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = tx.Rollback(ctx)
		if errors.Is(err, errRollback) {
			return nil
		}
		return err
	}
	ctx, cancel := lingering(ctx, abandonTimeout)
	defer cancel()
	return unavailable("commit", tx.Commit(ctx))
}

// lingering is a context that outlives another by some time.
func lingering(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}

// foldLog folds until little is left. A long log grows while it is folded, and
// folding is cheaper than saving.
func (r *rebuild) foldLog(ctx context.Context) error {
	for {
		if err := r.foldAll(ctx); err != nil {
			return err
		}
		if head, err := r.readHead(ctx); err != nil || head-r.at < rangeEvents {
			return err
		}
	}
}

// readHead is the head of the log. Somebody may keep the log locked.
func (r *rebuild) readHead(ctx context.Context) (head int64, err error) {
	err = r.meanwhile(ctx, func(ctx context.Context) (err error) {
		head, err = r.log.head(ctx)
		return err
	})
	return head, err
}

// meanwhile runs work that leaves the session of the rebuild alone, and keeps that
// session alive.
func (r *rebuild) meanwhile(ctx context.Context, work func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(beatInterval):
			if err := r.tell(ctx); err != nil {
				cancel()
				<-done
				return err
			}
		}
	}
}

// foldAll folds up to the head of the log.
func (r *rebuild) foldAll(ctx context.Context) error {
	head, err := r.readHead(ctx)
	if err != nil {
		return err
	}
	r.head = head
	err = r.log.each(ctx, r.at, head,
		func(events []eventstore.PageEvent) error { return r.fold(ctx, events) },
		func() error { return r.tell(ctx) })
	if err == nil && r.at < head {
		err = fmt.Errorf("%w: position %d is missing", eventstore.ErrGap, r.at+1)
	}
	return err
}

func (r *rebuild) fold(ctx context.Context, events []eventstore.PageEvent) error {
	for i := range events {
		if events[i].Position != r.at+1 {
			return fmt.Errorf("%w: expected position %d, found %d", eventstore.ErrGap, r.at+1, events[i].Position)
		}
		r.at++
	}
	r.foldShadows(events)
	r.Progress(r.at, r.head)
	if err := r.spill(ctx); err != nil {
		return err
	}
	return r.tell(ctx)
}

func (r *rebuild) foldShadows(events []eventstore.PageEvent) {
	var others sync.WaitGroup
	for _, s := range r.shadows[1:] {
		if r.Processors == 1 {
			s.fold(events)
		} else {
			others.Go(func() { s.fold(events) })
		}
	}
	r.shadows[0].fold(events)
	others.Wait()
}

// spill saves failures when there are many. Not during the swap, whose transaction
// may be rolled back.
func (r *rebuild) spill(ctx context.Context) error {
	for _, s := range r.shadows {
		a := s.setAside()
		if len(a.pending) < maxPending || r.swapping {
			continue
		}
		if err := a.save(ctx, r.conn, r.schema); err != nil {
			return err
		}
		a.drop()
	}
	return nil
}

// tell writes how far the rebuild is. It also keeps the session from being idle.
func (r *rebuild) tell(ctx context.Context) error {
	if time.Since(r.told) < tellInterval || r.swapping {
		return nil
	}
	return r.tellNow(ctx)
}

func (r *rebuild) tellNow(ctx context.Context) error {
	r.told = time.Now()
	_, err := r.conn.Exec(ctx, `
		UPDATE projection_rebuilds SET position = $2, head = $3, stage = $4, waits_for = $5, updated_at = now()
		 WHERE projection = ANY ($1)`, r.Projections, r.at, r.head, r.stage, r.waitsFor)
	return unavailable("write the rebuild's progress", err)
}

func (r *rebuild) saveFailures(ctx context.Context) error {
	for _, s := range r.shadows {
		if err := s.setAside().save(ctx, r.conn, r.schema); err != nil {
			return err
		}
	}
	return nil
}

// saved notes that all is written that has been folded.
func (r *rebuild) saved() {
	for _, s := range r.shadows {
		s.setAside().drop()
		s.saved(r.at)
	}
}

func (r *rebuild) save(ctx context.Context, tx pgx.Tx) error {
	for _, s := range r.shadows {
		if err := s.save(ctx, tx, r.beside); err != nil {
			return err
		}
	}
	return r.saveFailures(ctx)
}
