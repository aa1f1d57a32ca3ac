package projections

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/reputation"
)

const (
	// standbyInterval is how often a stand-by asks whether the projector is gone.
	standbyInterval = time.Second

	// leaseSettings make PostgreSQL end the session of a projector that hangs or is
	// paused, and with the session its lock, so that a stand-by can take over. A
	// living projector speaks every keepInterval. Pages are planned anew, because a
	// plan that was made while the tables were small would be kept when they are
	// large; and by index, for what a projector touches is in memory. A statement that
	// has waited for a lock looks at the row as it is then.
	leaseSettings = `
		SET idle_session_timeout = '20s';
		SET idle_in_transaction_session_timeout = '20s';
		SET statement_timeout = '60s';
		SET lock_timeout = '10s';
		SET default_transaction_isolation = 'read committed';
		SET plan_cache_mode = force_custom_plan;
		SET random_page_cost = 1`

	// moveCheckpoint fails with divisionByZero when there is no such checkpoint, which
	// ends the transaction before anything else is written. What was folded last has to
	// be in the log, or the page is of another one.
	moveCheckpoint = `
		WITH moved AS (
			UPDATE projection_checkpoints AS c SET position = $3, event_created_at = $4, updated_at = now()
			 WHERE projection = $1 AND position = $2 AND version = $5 AND generation = $6
			   AND (position = 0 OR EXISTS (
			       SELECT FROM reputation_events AS e WHERE e.position = c.position AND e.created_at = c.event_created_at))
			RETURNING 1)
		SELECT 1 / count(*) FROM moved`
	divisionByZero = "22012"
)

// postgresLease holds a session lock on a connection of its own, and writes its
// pages through that same connection: whoever loses the lock has lost the means
// to write. The guard on the checkpoint protects against everything else.
type postgresLease struct {
	conn       *pgx.Conn
	pool       *pgxpool.Pool // for what is not written
	progress   *progress
	projection string
	version    string
	at         int64
	generation int64 // of the rows: what is remembered of others is worth nothing
	remembered *remembered
}

// acquire waits for the lock of a projection.
func (p *Postgres) acquire(ctx context.Context, projection, version string, standby func()) (lease, error) {
	for {
		conn, err := p.tryLock(ctx, projection)
		if err != nil {
			return nil, err
		}
		if conn != nil {
			return p.lease(ctx, conn.Hijack(), projection, version)
		}
		standby()
		select {
		case <-time.After(standbyInterval + rand.N(standbyInterval/4)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryLock returns a connection that holds the lock, or nil.
func (p *Postgres) tryLock(ctx context.Context, projection string) (*pgxpool.Conn, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, unavailable("connect", err)
	}
	var locked bool
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(`+projectorLock+`, hashtext($1))`, projection).Scan(&locked)
	if err != nil || !locked {
		conn.Release()
		return nil, unavailable("lock the projection", err)
	}
	return conn, nil
}

// lease checks that the projection can be continued.
func (p *Postgres) lease(ctx context.Context, conn *pgx.Conn, projection, version string) (lease, error) {
	l := &postgresLease{
		conn: conn, pool: p.pool, progress: p.progress, projection: projection, version: version, remembered: newRemembered(),
	}
	if err := l.open(ctx); err != nil {
		l.release()
		return nil, err
	}
	return l, nil
}

func (l *postgresLease) open(ctx context.Context) error {
	if _, err := l.conn.Exec(ctx, leaseSettings); err != nil {
		return unavailable("set the lease up", err)
	}
	_, err := l.conn.Exec(ctx, `
		INSERT INTO projection_checkpoints (projection, version) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
		l.projection, l.version)
	if err != nil {
		return unavailable("create the checkpoint", err)
	}
	if err := l.check(ctx); err != nil {
		return err
	}
	return l.tell(ctx)
}

// tell notes who is the projector. The session's id tells it from another process
// that has the lock for the moment that it takes to refuse the checkpoint.
func (l *postgresLease) tell(ctx context.Context) error {
	_, err := l.conn.Exec(ctx, `
		UPDATE projection_checkpoints SET holder = $2, holder_pid = pg_backend_pid(), held_since = now() WHERE projection = $1`,
		l.projection, thisProcess())
	return unavailable("note the projector", err)
}

// check refuses a checkpoint of another version, or of another log.
func (l *postgresLease) check(ctx context.Context) error {
	c, err := l.checkpoint(ctx, l.conn)
	if err != nil {
		return err
	}
	l.at, l.generation = c.position, c.generation
	return errors.Join(c.inLog(), c.ofVersion(l.version))
}

// checkpoint reads the checkpoint as it is stored. The error wraps [pgx.ErrNoRows] when
// there is none.
func (l *postgresLease) checkpoint(ctx context.Context, q querier) (checkpoint, error) {
	rows, err := q.Query(ctx, checkpointsInLog, []string{l.projection})
	if err != nil {
		return checkpoint{}, unavailable("read the checkpoint", err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, scanCheckpoint)
	return c, unavailable("read the checkpoint", err)
}

// Check compares the checkpoints with the log and the running version, without
// becoming the projector. The error joins an [*AheadError] or [*VersionError] for
// each projection that cannot be continued.
func (p *Postgres) Check(ctx context.Context, params reputation.Params) error {
	rows, err := p.pool.Query(ctx, checkpointsInLog, Names)
	if err != nil {
		return unavailable("read the checkpoints", err)
	}
	found, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil {
		return unavailable("read the checkpoints", err)
	}
	var refused []error
	for _, c := range found {
		refused = append(refused, c.inLog(), c.ofVersion(params.Version()))
	}
	return errors.Join(refused...)
}

// checkpointsInLog reads checkpoints, and whether the log has at their position
// the event that was folded there.
const checkpointsInLog = `
	SELECT c.projection, c.version, c.generation, c.position, (SELECT coalesce(max(position), 0) FROM reputation_events),
	       c.position = 0 OR e.created_at IS NOT DISTINCT FROM c.event_created_at AND e.position IS NOT NULL
	  FROM projection_checkpoints AS c
	  LEFT JOIN reputation_events AS e ON e.position = c.position
	 WHERE c.projection = ANY ($1)`

type checkpoint struct {
	projection, version string
	generation          int64
	position, head      int64
	same                bool
}

func scanCheckpoint(row pgx.CollectableRow) (c checkpoint, err error) {
	err = row.Scan(&c.projection, &c.version, &c.generation, &c.position, &c.head, &c.same)
	return c, err
}

func (c checkpoint) inLog() error {
	if c.same {
		return nil
	}
	return &AheadError{Projection: c.projection, Position: c.position, Head: c.head}
}

func (c checkpoint) ofVersion(version string) error {
	if c.version == version {
		return nil
	}
	return &VersionError{Projection: c.projection, Stored: c.version, Running: version}
}

func (l *postgresLease) position() int64 { return l.at }

// keep also looks whether the log is still the one that was folded: one that was
// restored from an older backup has nothing new that would show it.
func (l *postgresLease) keep(ctx context.Context) error {
	c, err := l.checkpoint(ctx, l.conn)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return c.inLog()
}

// release closes the connection, which frees the lock.
func (l *postgresLease) release() { closeConn(l.conn) }

// page reads what the work needs, and then writes in one round trip. Nobody else moves
// the checkpoint or writes the rows without moving it, so what was read is true if the
// checkpoint is still where it was.
func (l *postgresLease) page(ctx context.Context, step step, work func(context.Context, tx) error) error {
	return l.moved(step, l.writePage(ctx, step, work))
}

// writePage runs work and sends what it has queued. The statements travel together, and
// without an explicit BEGIN they commit together at the end.
func (l *postgresLease) writePage(ctx context.Context, step step, work func(context.Context, tx) error) error {
	var batch pgx.Batch
	batch.Queue(moveCheckpoint, l.checkpointArgs(step)...)
	if err := work(ctx, postgresTx{conn: l.conn, writes: &batch, remembered: l.remembered}); err != nil {
		return err
	}
	err := l.conn.SendBatch(ctx, &batch).Close()
	if hasCode(err, divisionByZero) {
		return l.lost(ctx, step.from)
	}
	return unavailable("write a page", err)
}

// transact is like page for work that writes by itself.
func (l *postgresLease) transact(ctx context.Context, step step, work func(context.Context, pgx.Tx) error) error {
	return l.moved(step, l.runTransaction(ctx, step, work))
}

func (l *postgresLease) runTransaction(ctx context.Context, step step, work func(context.Context, pgx.Tx) error) error {
	transaction, err := l.conn.Begin(ctx)
	if err != nil {
		return unavailable("begin a page", err)
	}
	rollback := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = transaction.Rollback(ctx) // after a commit it does nothing
	}
	defer rollback()
	// The guard comes first: a rival waits here, and then finds the checkpoint moved.
	_, err = transaction.Exec(ctx, moveCheckpoint, l.checkpointArgs(step)...)
	if hasCode(err, divisionByZero) {
		rollback()
		return l.lost(ctx, step.from)
	}
	if err != nil {
		return unavailable("move the checkpoint", err)
	}
	if err := work(ctx, transaction); err != nil {
		return err
	}
	return unavailable("commit a page", transaction.Commit(ctx))
}

// checkpointArgs are those of moveCheckpoint.
func (l *postgresLease) checkpointArgs(step step) []any {
	return []any{l.projection, step.from, step.to, step.at, l.version, l.generation}
}

// hasCode says whether PostgreSQL refused something with a code.
func hasCode(err error, code string) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == code
}

// moved notes that a page was committed, or that it failed.
func (l *postgresLease) moved(step step, err error) error {
	if err != nil {
		l.remembered.forget()
		if l.conn.IsClosed() && !errors.Is(err, ErrLost) {
			return fmt.Errorf("%w: %w", ErrLost, err)
		}
		return err
	}
	l.at = step.to
	l.progress.report(l.projection, step.to)
	return nil
}

// lost says why the checkpoint could not be moved.
func (l *postgresLease) lost(ctx context.Context, from int64) error {
	c, err := l.checkpoint(ctx, l.conn)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // it was emptied
	case err != nil:
		return err
	case c.generation != l.generation:
		return fmt.Errorf("%w: %w", ErrLost, errRebuilt)
	case c.inLog() != nil:
		return fmt.Errorf("%w: %w", ErrLost, c.inLog())
	}
	return fmt.Errorf("%w: the checkpoint of %s is no longer at %d", ErrLost, l.projection, from)
}

// The tables of the projections. A rebuild writes to others with the same columns.
const (
	aggregatesTable  = "reputation_aggregates"
	collectionsTable = "reputation_collections"
	cohortsTable     = "reputation_task_cohorts"
	membersTable     = "reputation_cohort_members"
)

// postgresTx reads and writes one page, with one statement for each table. It reads in
// one round trip for each call. What it writes is queued, and so remembered before it is
// stored: a page that fails makes the lease forget.
type postgresTx struct {
	conn       *pgx.Conn
	writes     *pgx.Batch // nil where nothing is written
	remembered *remembered
}

func (t postgresTx) loadAgents(ctx context.Context, nfts, collections []string) (agentRows, error) {
	known := newAgentRows(len(nfts), len(collections))
	nfts, collections = t.remembered.load(known, nfts, collections)
	read, err := readAgents(ctx, t.conn, nfts, collections)
	maps.Copy(known.agents, read.agents)
	maps.Copy(known.collections, read.collections)
	return known, err
}

func newAgentRows(agents, collections int) agentRows {
	return agentRows{
		agents:      make(map[string]*reputation.Agent, agents),
		collections: make(map[string]*reputation.Collection, collections),
	}
}

// readAgents reads rows of the aggregates projection.
func readAgents(ctx context.Context, db batcher, nfts, collections []string) (agentRows, error) {
	loaded := newAgentRows(len(nfts), len(collections))
	var batch pgx.Batch
	if len(nfts) > 0 {
		batch.Queue(`SELECT nft_id, folded FROM reputation_aggregates WHERE nft_id = ANY ($1) AND folded IS NOT NULL`, nfts).
			Query(func(rows pgx.Rows) error { return scanAgents(rows, loaded.agents) })
	}
	if len(collections) > 0 {
		batch.Queue(`
			SELECT collection_id, sum, squares, scores, members
			  FROM reputation_collections WHERE collection_id = ANY ($1)`, collections).
			Query(func(rows pgx.Rows) error { return scanCollections(rows, loaded.collections) })
	}
	if batch.Len() == 0 {
		return loaded, nil
	}
	return loaded, unavailable("load aggregates", db.SendBatch(ctx, &batch).Close())
}

func scanAgents(rows pgx.Rows, agents map[string]*reputation.Agent) error {
	for rows.Next() {
		// Not scanned: the text is decoded where the driver received it.
		raw := rows.RawValues()
		agent, nft := &reputation.Agent{}, string(raw[0])
		if err := reputation.DecodeInto(raw[1], agent); err != nil {
			return fmt.Errorf("the stored state of %s is damaged, rebuild the projection: %w", nft, err)
		}
		agents[nft] = agent
	}
	return rows.Err()
}

func scanCollections(rows pgx.Rows, collections map[string]*reputation.Collection) error {
	var id string
	var c reputation.Collection
	_, err := pgx.ForEachRow(rows, []any{&id, &c.Sum, &c.Squares, &c.Scores, &c.Members}, func() error {
		row := c
		collections[id] = &row
		return nil
	})
	return err
}

func (t postgresTx) saveAgents(_ context.Context, changes agentChanges) error {
	queueAgents(t.writes, aggregatesTable, changes.agents)
	queueCollections(t.writes, collectionsTable, changes.collections)
	queueFailures(t.writes, changes.failures)
	t.remembered.save(changes)
	return nil
}

func queueAgents(batch *pgx.Batch, table string, agents []changedAgent) {
	if len(agents) == 0 {
		return
	}
	n := len(agents)
	nfts, states := make([]string, n), make([]string, n)
	aggregates, folded := make([][]byte, n), make([][]byte, n)
	positions := make([]int64, n)
	for i, c := range agents {
		aggregates[i] = c.agent.Aggregate.AppendJSON(make([]byte, 0, 1024))
		folded[i] = c.agent.AppendJSON(make([]byte, 0, 1536), aggregates[i])
		nfts[i], states[i], positions[i] = c.nft, string(c.agent.Aggregate.State), c.position
	}
	batch.Queue(`
		INSERT INTO `+table+` (nft_id, state, aggregate, folded, position)
		SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::json[], $5::bigint[])
		ON CONFLICT (nft_id) DO UPDATE SET
			state = excluded.state, aggregate = excluded.aggregate, folded = excluded.folded,
			position = excluded.position, updated_at = now()`,
		nfts, states, aggregates, folded, positions)
}

func queueCollections(batch *pgx.Batch, table string, collections map[string]*reputation.Collection) {
	if len(collections) == 0 {
		return
	}
	var ids []string
	var sums, squares []float64
	var scores, members []int64
	for id, c := range collections {
		ids = append(ids, id)
		sums, squares = append(sums, c.Sum), append(squares, c.Squares)
		scores, members = append(scores, c.Scores), append(members, c.Members)
	}
	batch.Queue(`
		INSERT INTO `+table+` (collection_id, sum, squares, scores, members)
		SELECT * FROM unnest($1::text[], $2::float8[], $3::float8[], $4::bigint[], $5::bigint[])
		ON CONFLICT (collection_id) DO UPDATE SET
			sum = excluded.sum, squares = excluded.squares, scores = excluded.scores, members = excluded.members`,
		ids, sums, squares, scores, members)
}

func queueFailures(batch *pgx.Batch, failures []Failure) {
	if len(failures) == 0 {
		return
	}
	n := len(failures)
	names, nfts, reasons, details := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	positions := make([]int64, n)
	for i, f := range failures {
		names[i], positions[i], nfts[i], reasons[i], details[i] = f.Projection, f.Position, f.NFT, string(f.Reason), f.Detail
	}
	batch.Queue(`
		INSERT INTO projection_failures (projection, position, nft_id, reason, detail)
		SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[])
		ON CONFLICT (projection, position) DO UPDATE SET
			nft_id = excluded.nft_id, reason = excluded.reason, detail = excluded.detail, failed_at = now()`,
		names, positions, nfts, reasons, details)
}

func (t postgresTx) loadCohorts(ctx context.Context, nfts []string, keys []cohortID) (map[string]*reputation.Cohorts, error) {
	loaded, unknown := t.remembered.members.split(nfts)
	n := len(keys)
	ids, models, tasks := make([]string, n), make([]string, n), make([]string, n)
	for i, k := range keys {
		ids[i], models[i], tasks[i] = k.nft, k.key.Model, string(k.key.Task)
	}
	var batch pgx.Batch
	queueReadMembers(&batch, unknown, func(nft, collection string) {
		obtain(loaded, nft).CollectionID = collection
		t.remembered.members.add(nft, collection)
	})
	batch.Queue(`
		SELECT c.nft_id, c.model_id, c.task_type, c.score, c.samples, c.observed_at
		  FROM unnest($1::text[], $2::text[], $3::text[]) AS k (nft_id, model_id, task_type)
		  JOIN reputation_task_cohorts AS c USING (nft_id, model_id, task_type)
		 WHERE c.position IS NOT NULL`, ids, models, tasks).
		Query(func(rows pgx.Rows) error { return scanCohorts(rows, loaded) })
	return loaded, unavailable("load cohorts", t.conn.SendBatch(ctx, &batch).Close())
}

func queueReadMembers(batch *pgx.Batch, nfts []string, member func(nft, collection string)) {
	batch.Queue(`SELECT nft_id, collection_id FROM reputation_cohort_members WHERE nft_id = ANY ($1)`, nfts).
		Query(func(rows pgx.Rows) error {
			var nft, collection string
			_, err := pgx.ForEachRow(rows, []any{&nft, &collection}, func() error {
				member(nft, collection)
				return nil
			})
			return err
		})
}

func scanCohorts(rows pgx.Rows, loaded map[string]*reputation.Cohorts) error {
	var nft, model, task, observed string
	var score float64
	var samples int64
	_, err := pgx.ForEachRow(rows, []any{&nft, &model, &task, &score, &samples, &observed}, func() error {
		at, err := reputation.ParseTimestamp(observed)
		if err != nil {
			return fmt.Errorf("the stored cohort (%s, %s) of %s is damaged, rebuild the projection: %w", model, task, nft, err)
		}
		c := obtain(loaded, nft)
		if c.ByKey == nil {
			c.ByKey = map[reputation.CohortKey]reputation.TaskCohort{}
		}
		own := score
		cohort := reputation.TaskCohort{
			ModelID: model, TaskType: reputation.TaskType(task),
			PersonalScore: &own, SampleCount: samples, LastUpdated: at,
		}
		c.ByKey[cohort.Key()] = cohort
		return nil
	})
	return err
}

func (t postgresTx) saveCohorts(_ context.Context, changes cohortChanges) error {
	queueMembers(t.writes, membersTable, changes.members)
	queueCleared(t.writes, cohortsTable, changes.cleared)
	queueCohorts(t.writes, cohortsTable, changes.cohorts)
	queueFailures(t.writes, changes.failures)
	return nil
}

func queueMembers(batch *pgx.Batch, table string, members map[string]string) {
	if len(members) == 0 {
		return
	}
	var nfts, collections []string
	for nft, collection := range members {
		nfts, collections = append(nfts, nft), append(collections, collection)
	}
	batch.Queue(`
		INSERT INTO `+table+` (nft_id, collection_id)
		SELECT * FROM unnest($1::text[], $2::text[])`, nfts, collections)
}

func queueCleared(batch *pgx.Batch, table string, nfts []string) {
	if len(nfts) > 0 {
		batch.Queue(`DELETE FROM `+table+` WHERE nft_id = ANY ($1)`, nfts)
	}
}

func queueCohorts(batch *pgx.Batch, table string, cohorts []changedCohort) {
	if len(cohorts) == 0 {
		return
	}
	n := len(cohorts)
	nfts, models, tasks := make([]string, n), make([]string, n), make([]string, n)
	texts, observed := make([][]byte, n), make([]string, n)
	scores, samples, positions := make([]pgtype.Float8, n), make([]int64, n), make([]int64, n)
	for i, c := range cohorts {
		texts[i] = c.cohort.AppendJSON(make([]byte, 0, 192))
		nfts[i], models[i], tasks[i] = c.nft, c.cohort.ModelID, string(c.cohort.TaskType)
		if c.cohort.PersonalScore != nil {
			scores[i] = pgtype.Float8{Float64: *c.cohort.PersonalScore, Valid: true}
		}
		samples[i], observed[i], positions[i] = c.cohort.SampleCount, c.cohort.LastUpdated.String(), c.position
	}
	batch.Queue(`
		INSERT INTO `+table+`
			(nft_id, model_id, task_type, cohort, score, samples, observed_at, position)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::float8[], $6::bigint[], $7::text[], $8::bigint[])
		ON CONFLICT (nft_id, model_id, task_type) DO UPDATE SET
			cohort = excluded.cohort, score = excluded.score, samples = excluded.samples,
			observed_at = excluded.observed_at, position = excluded.position, updated_at = now()`,
		nfts, models, tasks, texts, scores, samples, observed, positions)
}
