package projections

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/reputation"
)

const (
	// maxChanges is over how many events a look at the log tells which NFTs changed.
	// After more of them everything counts as changed.
	maxChanges = 5_000

	// maxChanged bounds the NFTs whose last change is known, at about 100 bytes each.
	maxChanged = 50_000

	// lookTimeout bounds a look: it is made for many, of whom none can call it off.
	lookTimeout = 5 * time.Second
)

// freshness tells whether an NFT's rows are what they were when they were read. It
// answers from one small look at the checkpoints that begins after the question came,
// so an answer that was kept and did not change is as fresh as one that is read now,
// whichever process projects. All questions that come while a look is under way share
// the next one. It is safe for concurrent use.
type freshness struct {
	pool  *pgxpool.Pool
	looks looks

	mu sync.Mutex
	// epoch counts what known events do not tell of: rows that were rebuilt, a log that
	// was restored, or has grown by too much. What was read before is not compared with
	// what came after.
	epoch int64
	seen  sight            // of the last look
	floor int64            // from where on last is complete
	last  map[string]int64 // the position of the last event of NFTs since floor, up to seen.at
}

// sight is what a look sees of the projections.
type sight struct {
	aggregates, cohorts stage
	at                  int64      // the further position
	stamp               *time.Time // when the event there was stored; nil at 0
}

// stage is the checkpoint of one projection.
type stage struct{ generation, position int64 }

func newFreshness(pool *pgxpool.Pool) *freshness {
	none := stage{generation: -1} // which no checkpoint has, so that the first look begins an epoch
	return &freshness{pool: pool, seen: sight{aggregates: none, cohorts: none}, last: map[string]int64{}}
}

// now is the epoch that rows belong to whose reading begins now.
func (f *freshness) now() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch
}

// forget says that rows were changed by somebody else than a projector.
func (f *freshness) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.epoch++
}

// unchanged implements [Reader].
func (f *freshness) unchanged(ctx context.Context, nft string, mark reputation.Mark, projections []string) (position int64, unchanged bool, err error) {
	if err := f.looks.share(ctx, f.look); err != nil {
		return 0, false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	unchanged = mark.Epoch == f.epoch && mark.Position >= f.floor && f.last[nft] <= mark.Position
	return f.seen.position(projections), unchanged, nil
}

// position is the one that all of some projections have reached.
func (s sight) position(projections []string) int64 {
	position := s.at
	for _, name := range projections {
		switch name {
		case Aggregates:
			position = min(position, s.aggregates.position)
		case Cohorts:
			position = min(position, s.cohorts.position)
		}
	}
	return position
}

// look sees how far the projections are, and what changed since the last look. Looks
// follow one another.
func (f *freshness) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	now, err := f.sight(ctx)
	if err != nil {
		return unavailable("look at the checkpoints", err)
	}
	f.mu.Lock()
	from := f.seen.at
	f.mu.Unlock()
	var since changed
	if from < now.at && now.at <= from+maxChanges {
		if since, err = f.changed(ctx, from, now.at); err != nil {
			return unavailable("look for changes", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(now, since)
	return nil
}

// sight looks at the checkpoints.
func (f *freshness) sight(ctx context.Context) (now sight, err error) {
	rows, err := f.pool.Query(ctx, `
		SELECT projection, generation, position, event_created_at
		  FROM projection_checkpoints WHERE projection IN ('`+Aggregates+`', '`+Cohorts+`')`)
	if err != nil {
		return now, err
	}
	var name string
	var s stage
	var stamp *time.Time
	_, err = pgx.ForEachRow(rows, []any{&name, &s.generation, &s.position, &stamp}, func() error {
		if name == Aggregates {
			now.aggregates = s
		} else {
			now.cohorts = s
		}
		if s.position > now.at {
			now.at, now.stamp = s.position, stamp
		}
		return nil
	})
	return now, err
}

// changed is what the log has between two looks. It is zero when that is nothing, or too
// much to ask for.
type changed struct {
	stamp     *time.Time // when the event was stored that was last at the first look
	nfts      []string   // that had events
	positions []int64    // of the last event of each
}

// changed asks the log. A plan that was kept since the log was short would read all of
// it.
func (f *freshness) changed(ctx context.Context, from, to int64) (c changed, err error) {
	err = f.pool.QueryRow(ctx, `
		SELECT (SELECT created_at FROM reputation_events WHERE position = $1), array_agg(nft_id), array_agg(last)
		  FROM (SELECT nft_id, max(position) AS last FROM reputation_events WHERE position > $1 AND position <= $2 GROUP BY nft_id) AS e`,
		pgx.QueryExecModeCacheDescribe, from, to).Scan(&c.stamp, &c.nfts, &c.positions)
	return c, err
}

// note compares with the last look.
func (f *freshness) note(now sight, since changed) {
	defer func() { f.seen = now }()
	follows := f.follows(now, since)
	if !follows {
		f.epoch++
	}
	if !follows || len(f.last)+len(since.nfts) > maxChanged {
		f.floor = now.at
		clear(f.last)
		return
	}
	for i, nft := range since.nfts {
		f.last[nft] = since.positions[i]
	}
}

// follows reports whether events that are known, and nothing else, lead from the last
// look to this one: nothing was rebuilt, and the log is the same one.
func (f *freshness) follows(now sight, since changed) bool {
	last := f.seen
	if now.aggregates.behind(last.aggregates) || now.cohorts.behind(last.cohorts) {
		return false
	}
	stamp := since.stamp
	if now.at == last.at {
		stamp = now.stamp
	}
	return last.at == 0 || stamp != nil && last.stamp != nil && stamp.Equal(*last.stamp)
}

// behind reports whether a projection is not where it was, nor further.
func (s stage) behind(last stage) bool {
	return s.generation != last.generation || s.position < last.position
}

// looks lets many share what one does.
type looks struct {
	mu   sync.Mutex
	busy bool  // somebody is doing it
	next *turn // of those who came since
}

// turn is one time that it is done.
type turn struct {
	lead chan struct{} // holds a token when one of those who wait is to do it
	done chan struct{} // closed when it was done
	err  error
}

// share returns when do was run once from beginning to end, by whomever, after share
// was called. It fails as do did, or when ctx ends. One do runs at a time.
func (l *looks) share(ctx context.Context, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	if l.next == nil {
		l.next = &turn{lead: make(chan struct{}, 1), done: make(chan struct{})}
	}
	t := l.next
	if !l.busy {
		l.busy = true
		t.lead <- struct{}{}
	}
	l.mu.Unlock()
	select {
	case <-t.lead:
		l.begin()
		defer l.end(t)
		t.err = do(ctx)
		return t.err
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin lets those who come from now on wait for the next turn.
func (l *looks) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = nil
}

// end wakes those who waited for a turn, and one of those who wait for the next. When
// they have gone, whoever comes finds the token.
func (l *looks) end(t *turn) {
	close(t.done)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.busy = false
		return
	}
	l.next.lead <- struct{}{}
}
