package projections

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"slices"

	"github.com/jackc/pgx/v5"

	"dixie/eventstore"
	"dixie/reputation"
)

// VerifyConfig says what to compare. The zero value compares everything.
type VerifyConfig struct {
	Params      reputation.Params
	Projections []string // all when empty
	NFT         string   // only the rows of one NFT
	// Sample is how many NFTs are compared, which Seed chooses from those that the log
	// has; 0 compares all. The same log and seed give the same NFTs.
	Sample int
	Seed   uint64
	// Progress is told how many of the log's events have been folded; it may be nil.
	Progress func(done, head int64)
	// Differ is called for each difference, in no particular order of tables; it may
	// be nil.
	Differ func(Difference)
}

// Difference is where stored rows are not what the log says, or where the log is
// not what it promises.
type Difference struct {
	Table    string
	Key      string // of the row; for the log the position
	Field    string // the first that differs; "row" when one side has no row
	Stored   string // "nothing" when there is no stored row
	Computed string // "nothing" when the log gives no row
	Position int64  // of the last event in the computed row, or of the log's row; 0 when it has none
}

func (d Difference) String() string {
	return fmt.Sprintf("%s %s: %s: stored %s, computed %s (position %d)", d.Table, d.Key, d.Field, d.Stored, d.Computed, d.Position)
}

// VerifyReport is what a verification found.
type VerifyReport struct {
	Events      int64            // folded
	Rows        int64            // compared
	Differences int64            // told to Differ
	Positions   map[string]int64 // the checkpoints that were verified; 0 before the first projector
	Head        int64            // of the log; what lies beyond a checkpoint is not projected yet
	// Digest is the SHA-256 over all stored rows of the verified projections, in
	// canonical form and without times of writing: two databases with the same log
	// share it. It is empty when only some NFTs were compared.
	Digest string
	// LogDigest is the SHA-256 over the SHA-256 of each event of the log, in their
	// order: of its nft_id, its event_type and its canonical form, separated by
	// newlines. Nothing in a database says what it should be, so it shows by comparison
	// with another what no row depends on.
	LogDigest string
}

// nothing stands for a row or a value that is not there.
const nothing = "nothing"

// Verify folds the log beside the stored rows, in one snapshot of the database,
// and compares. It reads only, and runs beside live traffic; a rebuild waits for its
// end with the exchange of the tables. It also audits the log: positions without
// gaps, times of storing in their order, ids and types that are those of the events.
// The error is a [*VersionError] when the rows were folded by another version: they
// cannot be compared. Memory grows with the number of agents as that of a rebuild.
func (p *Postgres) Verify(ctx context.Context, config VerifyConfig) (VerifyReport, error) {
	if len(config.Projections) == 0 {
		config.Projections = Names
	}
	snapshot, err := p.openSnapshot(ctx)
	if err != nil {
		return VerifyReport{}, err
	}
	defer snapshot.close()
	v := &verification{
		VerifyConfig: config, snapshot: snapshot, digest: sha256.New(), audit: logAudit{digest: sha256.New()},
		report: VerifyReport{Positions: map[string]int64{}},
	}
	err = v.run(ctx)
	return v.report, err
}

// snapshot is one state of the database that two connections read.
type snapshot struct {
	rows *pgx.Conn
	log  *logReader
}

// A rebuild's exchange of the tables would show rows from after the snapshot: their
// locks, which are taken before it, keep it away. The planner is kept to the primary
// keys, which have the order that is compared in.
const (
	snapshotSettings = `
		SET statement_timeout = 0;
		SET idle_session_timeout = 0;
		SET idle_in_transaction_session_timeout = 0`
	snapshotBegin = `
		BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
		SET LOCAL enable_sort = off;
		LOCK TABLE ` + aggregatesTable + `, ` + collectionsTable + `, ` + cohortsTable + `, ` + membersTable + ` IN ACCESS SHARE MODE`
)

func (p *Postgres) openSnapshot(ctx context.Context) (*snapshot, error) {
	s := &snapshot{}
	err := s.open(ctx, p)
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *snapshot) open(ctx context.Context, p *Postgres) error {
	var conns [2]*pgx.Conn
	for i := range conns {
		pooled, err := p.pool.Acquire(ctx)
		if err != nil {
			return unavailable("connect", err)
		}
		conns[i] = pooled.Hijack() // for its settings must not go back to the pool
		if i == 0 {
			s.rows = conns[i]
		} else {
			s.log = &logReader{conn: conns[i], audit: true}
		}
		if _, err := conns[i].Exec(ctx, snapshotSettings); err != nil {
			return unavailable("set a snapshot up", err)
		}
	}
	if _, err := s.rows.Exec(ctx, snapshotBegin); err != nil {
		return unavailable("open a snapshot", err)
	}
	var name string
	if err := s.rows.QueryRow(ctx, `SELECT pg_export_snapshot()`).Scan(&name); err != nil {
		return unavailable("export a snapshot", err)
	}
	_, err := s.log.conn.Exec(ctx, logSettings+`; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '`+name+`'`)
	return unavailable("import a snapshot", err)
}

func (s *snapshot) close() {
	if s.rows != nil {
		closeConn(s.rows)
	}
	if s.log != nil {
		closeConn(s.log.conn)
	}
}

// verification is one run of [Postgres.Verify].
type verification struct {
	VerifyConfig
	*snapshot
	projections []*verified
	only        []string // the NFTs that are compared; nil for all
	digest      hash.Hash
	audit       logAudit
	report      VerifyReport
}

// verified is a projection that is being verified.
type verified struct {
	shadow
	name       string
	checkpoint int64
	failures   failureStream
}

func (v *verification) run(ctx context.Context) error {
	if err := v.checkpoints(ctx); err != nil {
		return err
	}
	if err := v.foldLog(ctx); err != nil {
		return err
	}
	v.choose()
	for _, p := range v.projections {
		if err := v.compare(ctx, p); err != nil {
			return err
		}
	}
	v.report.LogDigest = hex.EncodeToString(v.audit.digest.Sum(nil))
	if v.only == nil {
		v.report.Digest = hex.EncodeToString(v.digest.Sum(nil))
	}
	return nil
}

func (v *verification) checkpoints(ctx context.Context) error {
	rows, err := v.rows.Query(ctx, checkpointsInLog, v.Projections)
	if err != nil {
		return unavailable("read the checkpoints", err)
	}
	found, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil {
		return unavailable("read the checkpoints", err)
	}
	for _, name := range v.Projections {
		v.report.Positions[name] = 0
	}
	var refused []error
	for _, c := range found {
		v.report.Positions[c.projection] = c.position
		refused = append(refused, c.inLog(), c.ofVersion(v.Params.Version()))
	}
	for _, name := range v.Projections {
		v.projections = append(v.projections, &verified{
			shadow: newShadow(name, v.Params), name: name, checkpoint: v.report.Positions[name],
			failures: failureStream{projection: name, digest: sha256.New()},
		})
	}
	return errors.Join(refused...)
}

// foldLog audits the log to its end, and folds each projection up to where it
// stands.
func (v *verification) foldLog(ctx context.Context) error {
	var first, head int64
	err := v.rows.QueryRow(ctx, `SELECT coalesce(min(position), 1), coalesce(max(position), 0) FROM reputation_events`).Scan(&first, &head)
	if err != nil {
		return unavailable("read the log's head", err)
	}
	v.report.Head = head
	err = v.log.eachBatch(ctx, min(first-1, 0), head,
		func(b *logBatch) error { return v.foldBatch(ctx, b, head) },
		func() error { return nil })
	if err != nil {
		return err
	}
	for _, p := range v.projections {
		if err := v.compareFailures(ctx, p, true); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) foldBatch(ctx context.Context, b *logBatch, head int64) error {
	for i := range b.events {
		v.audit.follow(&b.events[i], v.differ)
		v.audit.digest.Write(b.hashes[i][:])
	}
	for _, d := range b.found {
		v.differ(d)
	}
	for _, p := range v.projections {
		p.fold(b.events)
		if err := v.compareFailures(ctx, p, false); err != nil {
			return err
		}
	}
	v.report.Events += int64(len(b.events))
	if v.Progress != nil {
		v.Progress(v.report.Events, head)
	}
	return nil
}

// fold folds what the projection had folded in the snapshot.
func (p *verified) fold(events []eventstore.PageEvent) {
	folded, _ := slices.BinarySearchFunc(events, p.checkpoint+1, func(e eventstore.PageEvent, position int64) int {
		return cmp.Compare(e.Position, position)
	})
	p.shadow.fold(events[:folded])
}

// choose decides which NFTs are compared.
func (v *verification) choose() {
	switch {
	case v.NFT != "":
		v.only = []string{v.NFT}
	case v.Sample > 0:
		v.only = []string{}
		for _, p := range v.projections {
			v.only = append(v.only, p.ids()...)
		}
		slices.Sort(v.only)
		v.only = slices.Compact(v.only)
		random := rand.New(rand.NewPCG(v.Seed, v.Seed))
		random.Shuffle(len(v.only), func(i, j int) { v.only[i], v.only[j] = v.only[j], v.only[i] })
		v.only = v.only[:min(v.Sample, len(v.only))]
		slices.Sort(v.only)
	}
}

func (v *verification) inScope(nft string) bool {
	if v.only == nil {
		return true
	}
	_, found := slices.BinarySearch(v.only, nft)
	return found
}

func (v *verification) differ(d Difference) {
	v.report.Differences++
	if v.Differ != nil {
		v.Differ(d)
	}
}
