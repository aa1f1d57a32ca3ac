package projections

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"dixie/eventstore"
	"dixie/reputation"
)

// VerifyConfig says what to compare. The zero value compares everything.
type VerifyConfig struct {
	Params      reputation.Params
	Projections []string // all when empty
	NFT         string   // only the rows of one NFT
	// Progress is told how many of the log's events have been folded; it may be nil.
	Progress func(done, head int64)
	// Differ is called for each difference, in no particular order of tables.
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
	Position int64  // of the last event in the computed row, or of the log's row
}

func (d Difference) String() string {
	return fmt.Sprintf("%s %s: %s: stored %s, computed %s (position %d)", d.Table, d.Key, d.Field, d.Stored, d.Computed, d.Position)
}

// VerifyReport is what a verification found.
type VerifyReport struct {
	Events      int64            // folded
	Rows        int64            // compared
	Differences int64            // told to Differ
	Positions   map[string]int64 // the checkpoints that were verified
	// Digest is the SHA-256 over all stored rows of the verified projections, in
	// canonical form and without times of writing: two databases with the same log
	// share it. It is empty when only one NFT was compared.
	Digest string
}

// nothing stands for a row that is not there.
const nothing = "nothing"

// Verify folds the log beside the stored rows, in one snapshot of the database,
// and compares. It reads only, and runs beside live traffic. It also audits the
// log: positions without gaps, times of storing in their order, ids that are
// those of the events. The error is a [*VersionError] when the rows were folded
// by another version: they cannot be compared. Memory grows with the number of
// agents, not of events.
func (p *Postgres) Verify(ctx context.Context, config VerifyConfig) (VerifyReport, error) {
	if len(config.Projections) == 0 {
		config.Projections = Names
	}
	snapshot, err := p.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return VerifyReport{}, unavailable("open a snapshot", err)
	}
	defer func() { _ = snapshot.Rollback(context.WithoutCancel(ctx)) }()
	v := &verification{
		VerifyConfig: config, tx: snapshot, replay: NewReplay(config.Params),
		last: map[string]int64{}, lastCohort: map[cohortID]int64{}, aside: map[string]map[int64]reputation.Reason{},
		digest: sha256.New(), report: VerifyReport{Positions: map[string]int64{}},
	}
	if err := v.run(ctx); err != nil {
		return v.report, err
	}
	if config.NFT == "" {
		v.report.Digest = hex.EncodeToString(v.digest.Sum(nil))
	}
	return v.report, nil
}

// verification is one run of [Postgres.Verify].
type verification struct {
	VerifyConfig
	tx     pgx.Tx
	replay *Replay
	digest hash.Hash
	report VerifyReport

	last       map[string]int64                       // position of the last event of each agent
	lastCohort map[cohortID]int64                     // and of each cohort
	aside      map[string]map[int64]reputation.Reason // events set aside, by projection
}

func (v *verification) run(ctx context.Context) error {
	if err := v.checkpoints(ctx); err != nil {
		return err
	}
	if err := v.foldLog(ctx); err != nil {
		return err
	}
	for _, name := range v.Projections {
		if err := v.compare(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) checkpoints(ctx context.Context) error {
	rows, err := v.tx.Query(ctx, checkpointsInLog, v.Projections)
	if err != nil {
		return unavailable("read the checkpoints", err)
	}
	found, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil {
		return unavailable("read the checkpoints", err)
	}
	var refused []error
	for _, c := range found {
		v.report.Positions[c.projection] = c.position
		refused = append(refused, c.inLog(), c.ofVersion(v.Params.Version()))
	}
	return errors.Join(refused...)
}

// auditedEvent is a row of the log with what the audit looks at.
type auditedEvent struct {
	eventstore.Recorded
	id pgtype.UUID
}

const auditPage = 2000

// foldLog audits the log to its end, and folds each projection up to where it
// stands.
func (v *verification) foldLog(ctx context.Context) error {
	var head int64
	if err := v.tx.QueryRow(ctx, `SELECT coalesce(max(position), 0) FROM reputation_events`).Scan(&head); err != nil {
		return unavailable("read the log's head", err)
	}
	var before auditedEvent
	for {
		page, err := v.readPage(ctx, before.Position)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for i := range page {
			event, invalid := page[i].Event()
			v.audit(&before, &page[i])
			v.foldEvent(&page[i], &event, invalid)
			before = page[i]
		}
		v.report.Events += int64(len(page))
		if v.Progress != nil {
			v.Progress(v.report.Events, head)
		}
	}
}

func (v *verification) readPage(ctx context.Context, after int64) ([]auditedEvent, error) {
	rows, err := v.tx.Query(ctx, `
		SELECT position, nft_id, event_type, created_at, event, id
		  FROM reputation_events WHERE position > $1 ORDER BY position LIMIT $2`, after, auditPage)
	if err != nil {
		return nil, unavailable("read the log", err)
	}
	page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e auditedEvent, err error) {
		err = row.Scan(&e.Position, &e.NFT, &e.Type, &e.CreatedAt, &e.JSON, &e.id)
		return e, err
	})
	return page, unavailable("read the log", err)
}

// audit compares a row of the log with the one before it and with its own
// content.
func (v *verification) audit(before, e *auditedEvent) {
	if e.Position != before.Position+1 {
		v.inLog(e, "position", fmt.Sprint(e.Position), fmt.Sprint(before.Position+1))
	}
	if !e.CreatedAt.After(before.CreatedAt) {
		v.inLog(e, "created_at", e.CreatedAt.UTC().Format(time.RFC3339Nano), "later than "+before.CreatedAt.UTC().Format(time.RFC3339Nano))
	}
	entry, err := reputation.RawEntry(e.NFT, e.Type, e.JSON)
	if err != nil {
		v.inLog(e, "event", "an event that has no canonical form", "one that has")
		return
	}
	if entry.HasID != e.id.Valid || entry.ID != e.id.Bytes {
		v.inLog(e, "id", uuidText(e.id), uuidText(pgtype.UUID{Bytes: entry.ID, Valid: entry.HasID}))
	}
}

func uuidText(id pgtype.UUID) string {
	if !id.Valid {
		return "null"
	}
	return id.String()
}

func (v *verification) inLog(e *auditedEvent, field, stored, computed string) {
	v.differ(Difference{
		Table: "reputation_events", Key: fmt.Sprint(e.Position), Field: field,
		Stored: stored, Computed: computed, Position: e.Position,
	})
}

func (v *verification) differ(d Difference) {
	v.report.Differences++
	if v.Differ != nil {
		v.Differ(d)
	}
}

func (v *verification) foldEvent(e *auditedEvent, event *reputation.Event, invalid error) {
	for _, name := range v.Projections {
		if e.Position > v.report.Positions[name] {
			continue
		}
		err := invalid
		if err == nil && name == Aggregates {
			err = v.replay.applyAggregates(e.NFT, event)
		}
		if err == nil && name == Cohorts {
			err = v.replay.applyCohorts(e.NFT, event)
		}
		if err != nil {
			v.setAside(name, e, err)
			continue
		}
		if name == Aggregates {
			v.last[e.NFT] = e.Position
		} else if key, _, ok := reputation.CohortOf(event); ok {
			v.lastCohort[cohortID{e.NFT, key}] = e.Position
		}
	}
}

func (v *verification) setAside(name string, e *auditedEvent, err error) {
	if v.aside[name] == nil {
		v.aside[name] = map[int64]reputation.Reason{}
	}
	failure := newFailure(name, &eventstore.PageEvent{Recorded: e.Recorded}, err)
	v.aside[name][e.Position] = failure.Reason
}

// row is a row as it is compared: members in canonical JSON.
type row struct {
	key      string
	position int64
	text     []byte
}

// compare compares the tables of a projection.
func (v *verification) compare(ctx context.Context, projection string) error {
	type table struct {
		name, query string
		computed    []row
	}
	var tables []table
	switch projection {
	case Aggregates:
		tables = []table{
			{"reputation_aggregates", storedAggregates, v.computedAggregates()},
			{"reputation_collections", storedCollections, v.computedCollections()},
		}
	case Cohorts:
		tables = []table{
			{"reputation_task_cohorts", storedCohorts, v.computedCohorts()},
			{"reputation_cohort_members", storedMembers, v.computedMembers()},
		}
	}
	tables = append(tables, table{"projection_failures", storedFailures, v.computedFailures(projection)})
	for _, t := range tables {
		if v.NFT != "" && (t.name == "reputation_collections" || t.name == "projection_failures") {
			continue // they are not rows of an NFT
		}
		if err := v.compareTable(ctx, t.name, t.query, projection, t.computed); err != nil {
			return err
		}
	}
	return nil
}

// The stored rows, as a key in byte order, the position and the members in JSON.
// $1 is the projection, $2 an NFT or empty for all.
const (
	storedAggregates = `
		SELECT nft_id, position, jsonb_build_object('state', state, 'aggregate', aggregate, 'folded', folded, 'position', position)
		  FROM reputation_aggregates WHERE $1 <> '' AND ($2 = '' OR nft_id = $2) ORDER BY nft_id`
	storedCollections = `
		SELECT collection_id, NULL::bigint, jsonb_build_object('sum', sum, 'squares', squares, 'scores', scores, 'members', members)
		  FROM reputation_collections WHERE $1 <> '' AND $2 = '' ORDER BY collection_id`
	storedCohorts = `
		SELECT nft_id || ' ' || task_type || ' ' || model_id, position,
		       jsonb_build_object('cohort', cohort, 'score', score, 'samples', samples, 'observed_at', observed_at, 'position', position)
		  FROM reputation_task_cohorts WHERE $1 <> '' AND ($2 = '' OR nft_id = $2)
		 ORDER BY (nft_id || ' ' || task_type || ' ' || model_id) COLLATE "C"`
	storedMembers = `
		SELECT nft_id, NULL::bigint, jsonb_build_object('collection_id', collection_id)
		  FROM reputation_cohort_members WHERE $1 <> '' AND ($2 = '' OR nft_id = $2) ORDER BY nft_id`
	storedFailures = `
		SELECT lpad(position::text, 19, '0'), position, jsonb_build_object('reason', reason)
		  FROM projection_failures WHERE projection = $1 AND $2 = '' ORDER BY position`
)

// compareTable walks both sides in the order of their keys.
func (v *verification) compareTable(ctx context.Context, name, query, projection string, computed []row) error {
	rows, err := v.tx.Query(ctx, query, projection, v.NFT)
	if err != nil {
		return unavailable("read "+name, err)
	}
	var key string
	var position *int64
	var text []byte
	_, err = pgx.ForEachRow(rows, []any{&key, &position, &text}, func() error {
		canonical, err := reputation.Canonical(text)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", key, name, err)
		}
		fmt.Fprintf(v.digest, "%s %s %s\n", name, key, canonical)
		for len(computed) > 0 && computed[0].key < key {
			v.missing(name, computed[0])
			computed = computed[1:]
		}
		if len(computed) == 0 || computed[0].key > key {
			v.unexpected(name, key, position, canonical)
			return nil
		}
		v.compareRow(name, computed[0], canonical)
		computed = computed[1:]
		return nil
	})
	if err != nil {
		return unavailable("read "+name, err)
	}
	for _, r := range computed {
		v.missing(name, r)
	}
	return nil
}

func (v *verification) missing(table string, r row) {
	v.report.Rows++
	v.differ(Difference{Table: table, Key: r.key, Field: "row", Stored: nothing, Computed: brief(r.text), Position: r.position})
}

func (v *verification) unexpected(table, key string, position *int64, stored []byte) {
	v.report.Rows++
	d := Difference{Table: table, Key: key, Field: "row", Stored: brief(stored), Computed: nothing}
	if position != nil {
		d.Position = *position
	}
	v.differ(d)
}

func (v *verification) compareRow(table string, computed row, stored []byte) {
	v.report.Rows++
	if bytes.Equal(stored, computed.text) {
		return
	}
	field, s, c := firstDifference("", stored, computed.text)
	v.differ(Difference{Table: table, Key: computed.key, Field: field, Stored: brief(s), Computed: brief(c), Position: computed.position})
}

// firstDifference descends into objects to the first member that differs.
func firstDifference(path string, stored, computed []byte) (field string, s, c []byte) {
	var a, b map[string]json.RawMessage
	if json.Unmarshal(stored, &a) != nil || json.Unmarshal(computed, &b) != nil || a == nil || b == nil {
		return strings.TrimPrefix(path, "."), stored, computed
	}
	names := slices.Sorted(maps.Keys(a))
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if !bytes.Equal(a[name], b[name]) {
			return firstDifference(path+"."+name, a[name], b[name])
		}
	}
	return strings.TrimPrefix(path, "."), stored, computed
}

// brief shortens a value for a line of output.
func brief(text []byte) string {
	const most = 160
	switch {
	case len(text) == 0:
		return nothing
	case len(text) > most:
		return strings.ToValidUTF8(string(text[:most]), "") + "…"
	}
	return string(text)
}

func (v *verification) computedAggregates() []row {
	var rows []row
	for _, nft := range v.replay.NFTs() {
		if v.NFT != "" && nft != v.NFT {
			continue
		}
		agent := v.replay.Agent(nft)
		aggregate := agent.Aggregate.AppendJSON(nil)
		rows = append(rows, newRow(nft, v.last[nft], map[string]any{
			"state": agent.Aggregate.State, "aggregate": json.RawMessage(aggregate),
			"folded": json.RawMessage(agent.AppendJSON(nil, aggregate)), "position": v.last[nft],
		}))
	}
	return rows
}

func (v *verification) computedCollections() []row {
	var rows []row
	for _, id := range slices.Sorted(maps.Keys(v.replay.collections)) {
		c := v.replay.collections[id]
		rows = append(rows, newRow(id, 0, map[string]any{
			"sum": c.Sum, "squares": c.Squares, "scores": c.Scores, "members": c.Members,
		}))
	}
	return rows
}

func (v *verification) computedCohorts() []row {
	var rows []row
	for nft, cohorts := range v.replay.cohorts {
		if v.NFT != "" && nft != v.NFT {
			continue
		}
		for key, c := range cohorts.ByKey {
			position := v.lastCohort[cohortID{nft, key}]
			rows = append(rows, newRow(nft+" "+string(key.Task)+" "+key.Model, position, map[string]any{
				"cohort": json.RawMessage(c.AppendJSON(nil)), "score": c.PersonalScore, "samples": c.SampleCount,
				"observed_at": c.LastUpdated.String(), "position": position,
			}))
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.key, b.key) })
	return rows
}

func (v *verification) computedMembers() []row {
	var rows []row
	for _, nft := range slices.Sorted(maps.Keys(v.replay.cohorts)) {
		if v.NFT == "" || nft == v.NFT {
			rows = append(rows, newRow(nft, 0, map[string]any{"collection_id": v.replay.cohorts[nft].CollectionID}))
		}
	}
	return rows
}

func (v *verification) computedFailures(projection string) []row {
	var rows []row
	for _, position := range slices.Sorted(maps.Keys(v.aside[projection])) {
		rows = append(rows, newRow(fmt.Sprintf("%019d", position), position, map[string]any{"reason": v.aside[projection][position]}))
	}
	return rows
}

func newRow(key string, position int64, members map[string]any) row {
	text, err := json.Marshal(members)
	if err == nil {
		text, err = reputation.Canonical(text)
	}
	if err != nil {
		panic(fmt.Sprintf("projections: encode a computed row: %v", err)) // only values that the fold makes
	}
	return row{key: key, position: position, text: text}
}
