package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// finish catches up with the log and swaps, again and again while the tables
// cannot be locked.
func (r *rebuild) finish(ctx context.Context) ([]Rebuilt, error) {
	most, err := r.mostWait(ctx)
	if err != nil {
		return nil, err
	}
	wait := leastLockWait
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, mostBackoff) {
		if err := r.catchUp(ctx); err != nil {
			return nil, err
		}
		err := r.swap(ctx, wait)
		if err == nil {
			return r.rebuilt(), nil
		}
		if err := r.retry(ctx, err); err != nil {
			return nil, err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		wait = min(wait*3/2, most)
	}
}

// mostWait is how long a lock may be waited for.
func (r *rebuild) mostWait(ctx context.Context) (time.Duration, error) {
	var deadlock int64 // milliseconds
	err := r.conn.QueryRow(ctx, `SELECT setting::bigint FROM pg_settings WHERE name = 'deadlock_timeout'`).Scan(&deadlock)
	wait := min(mostLockWait, time.Duration(deadlock)*time.Millisecond/2)
	return max(wait, leastLockWait), unavailable("read a setting", err)
}

// retry is nil when another attempt to swap can help.
func (r *rebuild) retry(ctx context.Context, err error) error {
	var pgErr *pgconn.PgError
	var held heldError
	switch {
	case errors.Is(err, errDrifted):
		r.Logger.WarnContext(ctx, "a table was altered while it was rebuilt, following")
		return r.transact(ctx, func(tx pgx.Tx) error { return r.follow(ctx, tx) })
	case errors.As(err, &held):
		return r.wait(ctx, string(held))
	case !errors.As(err, &pgErr):
		return err
	}
	switch pgErr.Code {
	case "55P03", "40P01": // lock_not_available, deadlock_detected
	default:
		return err
	}
	who, err := holder(ctx, r.conn, r.tables, 0)
	if err != nil {
		return err
	}
	return r.wait(ctx, cmp.Or(who, "a session that has ended since"))
}

// wait tells whom the swap waits for.
func (r *rebuild) wait(ctx context.Context, who string) error {
	if time.Since(r.complained) > complainInterval {
		r.complained = time.Now()
		r.Logger.WarnContext(ctx, "the rebuilt tables are ready and wait to be swapped", "held_by", who)
	}
	r.waitsFor = who
	return r.tellNow(ctx)
}

// follow makes indexes that the live tables have got meanwhile.
func (r *rebuild) follow(ctx context.Context, tx pgx.Tx) error {
	for _, p := range r.tables {
		same, err := p.sameColumns(ctx, tx)
		if err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("%w: the columns of %s have changed since the rebuild began; start it again", errDrifted, p.name)
		}
		if err := p.finish(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// catchUp folds and saves what was appended meanwhile, until little is left.
func (r *rebuild) catchUp(ctx context.Context) error {
	for range mostRounds {
		if err := r.foldAll(ctx); err != nil {
			return err
		}
		err := r.transact(ctx, func(tx pgx.Tx) error { return r.save(ctx, tx) })
		if err != nil {
			return err
		}
		r.saved()
		if head, err := r.readHead(ctx); err != nil || head-r.at <= fewEvents {
			return err
		}
	}
	return nil
}

// swap is the one short transaction in which the shadows become live. The
// checkpoints come first, as for a projector's page: a projector waits there, and
// then finds that its rows were rebuilt.
func (r *rebuild) swap(ctx context.Context, wait time.Duration) error {
	who, err := holder(ctx, r.conn, r.tables, wait)
	if err != nil {
		return err
	}
	if who != "" {
		return heldError(who)
	}
	r.swapping = true
	defer func() { r.swapping = false }()
	var locked time.Time
	err = r.transact(ctx, func(tx pgx.Tx) error {
		plan, err := r.plan(ctx, tx)
		if err != nil {
			return err
		}
		if err := r.lockCheckpoints(ctx, tx); err != nil {
			return err
		}
		if err := r.foldAll(ctx); err != nil {
			return err
		}
		if err := r.save(ctx, tx); err != nil {
			return err
		}
		for _, s := range r.shadows {
			if err := s.setAside().merge(ctx, tx, r.schema); err != nil {
				return err
			}
		}
		if err := r.moveCheckpoints(ctx, tx); err != nil {
			return err
		}
		if err := r.hook("checkpoints"); err != nil {
			return err
		}
		locked, err = r.replace(ctx, tx, plan, wait)
		return err
	})
	if err == nil {
		r.locked = time.Since(locked)
		r.saved()
	}
	return err
}

// heldError says that a session has held one of the tables for longer than a swap
// waits.
type heldError string

func (e heldError) Error() string { return "a table is held by " + string(e) }

// swapPlan is what the exchange of the tables consists of.
type swapPlan struct {
	// fingerprint is of what the catalog knew when the plan was made.
	fingerprint string
	statements  []string
}

// plan finds out before anybody has to wait what there is to do. It fails when the
// tables cannot be exchanged.
func (r *rebuild) plan(ctx context.Context, tx pgx.Tx) (plan swapPlan, err error) {
	if plan.fingerprint, err = fingerprint(ctx, tx, r.tables); err != nil {
		return plan, err
	}
	for _, p := range r.tables {
		if err := p.check(ctx, tx); err != nil {
			return plan, err
		}
		swapped, err := p.swapped(ctx, tx)
		if err != nil {
			return plan, err
		}
		plan.statements = append(plan.statements, swapped...)
	}
	return plan, nil
}

func (r *rebuild) lockCheckpoints(ctx context.Context, tx pgx.Tx) error {
	if err := limitLockWait(ctx, tx, checkpointWait); err != nil {
		return err
	}
	var batch pgx.Batch
	batch.Queue(`
		INSERT INTO projection_checkpoints (projection, version)
		SELECT name, $2 FROM unnest($1::text[]) AS name ORDER BY name ON CONFLICT DO NOTHING`, r.Projections, r.Params.Version())
	batch.Queue(`SELECT FROM projection_checkpoints WHERE projection = ANY ($1) ORDER BY projection FOR UPDATE`, r.Projections)
	return unavailable("lock the checkpoints", tx.SendBatch(ctx, &batch).Close())
}

func (r *rebuild) moveCheckpoints(ctx context.Context, tx pgx.Tx) error {
	var batch pgx.Batch
	batch.Queue(`
		UPDATE projection_checkpoints
		   SET version = $2, position = $3, event_created_at = (SELECT created_at FROM reputation_events WHERE position = $3),
		       generation = generation + 1, updated_at = now()
		 WHERE projection = ANY ($1)`, r.Projections, r.Params.Version(), r.at)
	for _, one := range r.rebuilt() {
		batch.Queue(`
			UPDATE projection_rebuilds
			   SET position = $2, head = $3, nfts = $4, set_aside = $5, waits_for = '', updated_at = now(), finished_at = clock_timestamp()
			 WHERE projection = $1`, one.Projection, one.Position, r.head, one.NFTs, one.SetAside)
	}
	return unavailable("move the checkpoints", tx.SendBatch(ctx, &batch).Close())
}

// replace puts the shadows in the place of the live tables. From the time that it
// returns to the commit nobody can read them.
func (r *rebuild) replace(ctx context.Context, tx pgx.Tx, plan swapPlan, wait time.Duration) (locked time.Time, err error) {
	if err := limitLockWait(ctx, tx, wait); err != nil {
		return locked, err
	}
	var live []string
	for _, p := range r.tables {
		live = append(live, p.live())
	}
	if _, err := tx.Exec(ctx, "LOCK TABLE "+strings.Join(live, ", ")+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		return locked, unavailable("lock the tables", err)
	}
	locked = time.Now()
	now, err := fingerprint(ctx, tx, r.tables)
	if err != nil {
		return locked, err
	}
	if now != plan.fingerprint {
		return locked, errDrifted
	}
	if err := runAll(ctx, tx, plan.statements); err != nil {
		return locked, err
	}
	return locked, r.hook("swapped")
}

func (r *rebuild) rebuilt() []Rebuilt {
	done := make([]Rebuilt, len(r.shadows))
	for i, s := range r.shadows {
		done[i] = Rebuilt{Projection: r.Projections[i], Position: r.at, NFTs: s.nfts(), SetAside: s.setAside().count, Locked: r.locked}
	}
	return done
}
