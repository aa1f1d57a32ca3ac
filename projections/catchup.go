package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/eventstore"
	"dixie/reputation"
)

const (
	// farBehind is by how many events a projector must be behind to catch up instead
	// of following the log page by page.
	farBehind = 10_000

	// Rows are written after so long, or after writeShare times as long as writing took
	// the last time, so that the log is folded most of the time. Any longer than
	// mostFolding would not be worth what a killed process has to fold again.
	leastFolding = 15 * time.Second
	mostFolding  = time.Minute
	writeShare   = 3

	// loadPiece is about how many bytes of rows one statement loads, which has to end
	// before the timeout of leaseSettings.
	loadPiece = 16 << 20

	uniqueViolation = "23505" // PostgreSQL's code

	// connectTimeout bounds the wait for a connection.
	connectTimeout = 10 * time.Second

	// A shadow with more NFTs than this many times the distance that is far gives way
	// to a new one, which bounds memory.
	nftsOfFar = 5
)

// catchUp is a projector that folds many events in memory before it writes: pages
// that follow each other touch the same agents, and each would write them again.
// The fold is that of a rebuild, on rows that are fetched when an event first
// touches them.
type catchUp struct {
	lease   *postgresLease
	empty   func() shadow // makes one
	maxNFTs int64
	log     *logReader

	shadow   shadow
	complete bool  // the shadow has all rows that are stored
	at       int64 // folded

	spoken time.Time     // when the lease was used last
	due    time.Time     // when rows are to be written
	took   time.Duration // to write them the last time
}

// catchUp implements [lease].
func (l *postgresLease) catchUp(ctx context.Context, far int64, empty func() shadow) error {
	c := &catchUp{lease: l, empty: empty, maxNFTs: nftsOfFar * far, at: l.at}
	head, err := l.head(ctx)
	if err != nil || head-l.at < far {
		return err
	}
	conn, err := l.second(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if c.log, err = newLogReader(ctx, conn); err != nil {
		return err
	}
	c.begin(l.at == 0)
	for err == nil && head-l.at >= far {
		if err = c.run(ctx, head); err == nil {
			head, err = l.head(ctx)
		}
	}
	return err
}

func (l *postgresLease) head(ctx context.Context) (head int64, err error) {
	err = l.conn.QueryRow(ctx, `SELECT coalesce(max(position), 0) FROM reputation_events`).Scan(&head)
	return head, unavailable("read the log's head", err)
}

// second is another connection. The wait for one must not cost the lease, which
// ends when it is silent.
func (l *postgresLease) second(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	pooled, err := l.pool.Acquire(ctx)
	if err != nil {
		return nil, unavailable("connect", err)
	}
	return pooled.Hijack(), nil // for its settings must not go back to the pool
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// begin makes an empty shadow.
func (c *catchUp) begin(complete bool) {
	c.shadow, c.complete = c.empty(), complete
	c.shadow.saved(c.at) // from here on it notes what changes
}

// run folds up to the head and writes. A log with a gap is folded up to there.
func (c *catchUp) run(ctx context.Context, head int64) error {
	c.schedule()
	err := c.log.each(ctx, c.at, head,
		func(events []eventstore.PageEvent) error { return c.fold(ctx, events) },
		func() error { return c.speak(ctx) })
	if err == nil && c.at < head {
		err = fmt.Errorf("%w: position %d is missing", eventstore.ErrGap, c.at+1)
	}
	if err != nil && !errors.Is(err, eventstore.ErrGap) {
		return err
	}
	if failed := c.commit(ctx); failed != nil {
		return failed
	}
	return err
}

// schedule sets when rows are written next.
func (c *catchUp) schedule() {
	c.spoken = time.Now()
	c.due = c.spoken.Add(min(max(leastFolding, writeShare*c.took), mostFolding))
}

// speak keeps the lease while its connection has nothing else to do.
func (c *catchUp) speak(ctx context.Context) error {
	if time.Since(c.spoken) < keepInterval {
		return nil
	}
	c.spoken = time.Now()
	return c.lease.keep(ctx)
}

// full says that the shadow holds as much as it may.
func (c *catchUp) full() bool {
	return c.shadow.nfts() > c.maxNFTs || len(c.shadow.setAside().pending) > maxPending
}

// fold folds consecutive events, and writes when it is time to.
func (c *catchUp) fold(ctx context.Context, events []eventstore.PageEvent) error {
	events, gap := c.consecutive(events)
	if !c.complete {
		if err := c.shadow.fetch(ctx, c.lease.conn, events); err != nil {
			return err
		}
	}
	c.shadow.fold(events)
	c.at += int64(len(events))
	if gap != nil {
		return gap
	}
	if c.full() || time.Now().After(c.due) {
		return c.write(ctx)
	}
	return c.speak(ctx)
}

// consecutive are the events that follow what is folded, and the error that says which
// one is missing.
func (c *catchUp) consecutive(events []eventstore.PageEvent) ([]eventstore.PageEvent, error) {
	for i := range events {
		if want := c.at + int64(i) + 1; events[i].Position != want {
			return events[:i], fmt.Errorf("%w: expected position %d, found %d", eventstore.ErrGap, want, events[i].Position)
		}
	}
	return events, nil
}

// write commits while more is to be folded.
func (c *catchUp) write(ctx context.Context) error {
	if err := c.commit(ctx); err != nil {
		return err
	}
	if c.shadow.nfts() > c.maxNFTs {
		c.begin(false)
	}
	c.schedule()
	return nil
}

// commit writes the rows that have changed and moves the checkpoint, like a page.
func (c *catchUp) commit(ctx context.Context) error {
	l, start := c.lease, time.Now()
	if c.at == l.at {
		return nil
	}
	step := step{from: l.at, to: c.at}
	err := l.conn.QueryRow(ctx, `SELECT created_at FROM reputation_events WHERE position = $1`, c.at).Scan(&step.at)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w: position %d is missing", eventstore.ErrGap, c.at)
	}
	if err != nil {
		return unavailable("read the last event", err)
	}
	aside := c.shadow.setAside()
	err = l.transact(ctx, step, func(ctx context.Context, tx pgx.Tx) error {
		return saveShadow(ctx, tx, c.shadow, step.from == 0)
	})
	if err != nil {
		return err
	}
	l.remembered.forget() // what it remembers is older than what was written
	aside.drop()
	c.shadow.saved(c.at)
	c.took = time.Since(start)
	return nil
}

// saveShadow writes what a shadow has changed. The first time it is all that there is.
func saveShadow(ctx context.Context, tx pgx.Tx, s shadow, first bool) error {
	stored := false
	if first {
		var err error
		if stored, err = loadShadow(ctx, tx, s); err != nil {
			return err
		}
	}
	if !stored {
		if err := s.save(ctx, tx, sameTable); err != nil {
			return err
		}
	}
	var batch pgx.Batch
	queueFailures(&batch, s.setAside().pending)
	if batch.Len() == 0 {
		return nil
	}
	return unavailable("save failures", tx.SendBatch(ctx, &batch).Close())
}

func sameTable(live string) string { return live }

// loadShadow copies the rows of a shadow into the live tables, which takes half as long
// as saving them. It answers false, and has written nothing, where somebody else has put
// one of the rows.
func loadShadow(ctx context.Context, tx pgx.Tx, s shadow) (bool, error) {
	attempt, err := tx.Begin(ctx)
	if err != nil {
		return false, unavailable("begin to load", err)
	}
	err = s.load(ctx, loader{conn: attempt.Conn(), table: sameTable, piece: loadPiece})
	if hasCode(err, uniqueViolation) {
		return false, unavailable("take back what was loaded", attempt.Rollback(ctx))
	}
	if err != nil {
		return false, err
	}
	return true, unavailable("end the loading", attempt.Commit(ctx))
}

// fetch implements [shadow].
func (s *agentShadow) fetch(ctx context.Context, db batcher, events []eventstore.PageEvent) error {
	page := &eventstore.Page{Events: events}
	rows, err := readAgents(ctx, db, lacking(s.index, nfts(page)), lacking(s.collections, collections(page)))
	if err != nil {
		return err
	}
	for nft, agent := range rows.agents {
		s.index[nft] = s.rows.add(agentRow{nft: nft, packed: s.packer.pack(agent)})
	}
	for id, collection := range rows.collections {
		s.collections[id] = &collectionRow{Collection: *collection}
	}
	return nil
}

// fetch implements [shadow].
func (s *cohortShadow) fetch(ctx context.Context, db batcher, events []eventstore.PageEvent) error {
	loaded, err := readAllCohorts(ctx, db, lacking(s.index, nfts(&eventstore.Page{Events: events})))
	if err != nil {
		return err
	}
	for nft, cohorts := range loaded {
		i := s.rows.add(memberRow{nft: nft, collection: s.names.share(cohorts.CollectionID)})
		s.index[nft] = i
		for _, cohort := range cohorts.ByKey {
			s.keep(i, &cohort, 0)
		}
	}
	return nil
}

// lacking are the keys that a map does not have.
func lacking[V any](m map[string]V, keys []string) (missing []string) {
	for _, key := range keys {
		if _, ok := m[key]; !ok {
			missing = append(missing, key)
		}
	}
	return missing
}

// readAllCohorts reads the collections of NFTs and all their cohorts.
func readAllCohorts(ctx context.Context, db batcher, nfts []string) (map[string]*reputation.Cohorts, error) {
	loaded := map[string]*reputation.Cohorts{}
	if len(nfts) == 0 {
		return loaded, nil
	}
	var batch pgx.Batch
	queueReadMembers(&batch, nfts, func(nft, collection string) { obtain(loaded, nft).CollectionID = collection })
	batch.Queue(`
		SELECT nft_id, model_id, task_type, score, samples, observed_at
		  FROM reputation_task_cohorts WHERE nft_id = ANY ($1) AND position IS NOT NULL`, nfts).
		Query(func(rows pgx.Rows) error { return scanCohorts(rows, loaded) })
	return loaded, unavailable("load cohorts", db.SendBatch(ctx, &batch).Close())
}
