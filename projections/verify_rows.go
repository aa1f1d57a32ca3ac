package projections

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"dixie/reputation"
)

// row is a row as the log gives it.
type row struct {
	key      rowKey
	position int64  // of the last event in it
	text     []byte // canonical JSON of its columns, valid until the next row
}

// rowKey is the primary key of a row: an NFT or a collection, and for a cohort its
// model and task.
type rowKey [3]string

func (k rowKey) compare(other rowKey) int { return slices.Compare(k[:], other[:]) }

func (k rowKey) String() string { return strings.TrimRight(strings.Join(k[:], " "), " ") }

// The stored rows in the order of their keys: the key, the position, and the columns
// in JSON. $1 are the NFTs that are compared, NULL for all.
const (
	storedAggregates = `
		SELECT nft_id, '', '', position, jsonb_build_object('state', state, 'aggregate', aggregate, 'folded', folded, 'position', position)
		  FROM reputation_aggregates WHERE $1::text[] IS NULL OR nft_id = ANY ($1) ORDER BY nft_id`
	storedCollections = `
		SELECT collection_id, '', '', NULL::bigint, jsonb_build_object('sum', sum, 'squares', squares, 'scores', scores, 'members', members)
		  FROM reputation_collections WHERE $1::text[] IS NULL ORDER BY collection_id`
	storedCohorts = `
		SELECT nft_id, model_id, task_type, position,
		       jsonb_build_object('cohort', cohort, 'score', score, 'samples', samples, 'observed_at', observed_at, 'position', position)
		  FROM reputation_task_cohorts WHERE $1::text[] IS NULL OR nft_id = ANY ($1) ORDER BY nft_id, model_id, task_type`
	storedMembers = `
		SELECT nft_id, '', '', NULL::bigint, jsonb_build_object('collection_id', collection_id)
		  FROM reputation_cohort_members WHERE $1::text[] IS NULL OR nft_id = ANY ($1) ORDER BY nft_id`
)

// compare compares the tables of a projection.
func (v *verification) compare(ctx context.Context, p *verified) error {
	switch s := p.shadow.(type) {
	case *agentShadow:
		if err := v.compareTable(ctx, aggregatesTable, storedAggregates, s.computedAggregates(v.inScope)); err != nil {
			return err
		}
		if v.only == nil {
			if err := v.compareTable(ctx, collectionsTable, storedCollections, s.computedCollections()); err != nil {
				return err
			}
		}
	case *cohortShadow:
		if err := v.compareTable(ctx, cohortsTable, storedCohorts, s.computedCohorts(v.inScope)); err != nil {
			return err
		}
		if err := v.compareTable(ctx, membersTable, storedMembers, s.computedMembers(v.inScope)); err != nil {
			return err
		}
	}
	fmt.Fprintf(v.digest, "%s %s %x\n", failuresTable, p.name, p.failures.digest.Sum(nil))
	return nil
}

// compareTable walks both sides in the order of their keys.
func (v *verification) compareTable(ctx context.Context, table, query string, computed iter.Seq[row]) error {
	next, stop := iter.Pull(computed)
	defer stop()
	r, more := next()
	rows, err := v.rows.Query(ctx, query, v.only)
	if err != nil {
		return unavailable("read "+table, err)
	}
	var key rowKey
	var position *int64
	var text []byte
	_, err = pgx.ForEachRow(rows, []any{&key[0], &key[1], &key[2], &position, &text}, func() error {
		stored, err := reputation.Canonical(text)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", key, table, err)
		}
		fmt.Fprintf(v.digest, "%s %s %s\n", table, key, stored)
		for more && r.key.compare(key) < 0 {
			v.missing(table, r)
			r, more = next()
		}
		if !more || r.key.compare(key) > 0 {
			v.unexpected(table, key, position, stored)
			return nil
		}
		v.compareRow(table, r, stored)
		r, more = next()
		return nil
	})
	if err != nil {
		return unavailable("read "+table, err)
	}
	for more {
		v.missing(table, r)
		r, more = next()
	}
	return nil
}

func (v *verification) missing(table string, r row) {
	v.report.Rows++
	v.differ(Difference{Table: table, Key: r.key.String(), Field: "row", Stored: nothing, Computed: brief(r.text), Position: r.position})
}

func (v *verification) unexpected(table string, key rowKey, position *int64, stored []byte) {
	v.report.Rows++
	d := Difference{Table: table, Key: key.String(), Field: "row", Stored: brief(stored), Computed: nothing}
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
	v.differ(Difference{
		Table: table, Key: computed.key.String(), Field: field, Stored: brief(s), Computed: brief(c), Position: computed.position,
	})
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

// sorted are the rows of an index by NFT.
func sorted(index map[string]int32, inScope func(nft string) bool) iter.Seq2[string, int32] {
	nfts := make([]string, 0, len(index))
	for nft := range index {
		if inScope(nft) {
			nfts = append(nfts, nft)
		}
	}
	slices.Sort(nfts)
	return func(yield func(string, int32) bool) {
		for _, nft := range nfts {
			if !yield(nft, index[nft]) {
				return
			}
		}
	}
}

func (s *agentShadow) ids() []string  { return slices.Collect(maps.Keys(s.index)) }
func (s *cohortShadow) ids() []string { return slices.Collect(maps.Keys(s.index)) }

func (s *agentShadow) computedAggregates(inScope func(nft string) bool) iter.Seq[row] {
	return func(yield func(row) bool) {
		var aggregate, text []byte
		scratch := &reputation.Agent{}
		for nft, i := range sorted(s.index, inScope) {
			agent, position := s.agent(i, scratch), s.rows.at(i).position
			aggregate = agent.Aggregate.AppendJSON(aggregate[:0])
			text = append(append(text[:0], `{"aggregate":`...), aggregate...)
			text = agent.AppendJSON(append(text, `,"folded":`...), aggregate)
			text = fmt.Appendf(text, `,"position":%d,"state":%q}`, position, agent.Aggregate.State)
			if !yield(row{rowKey{nft}, position, text}) {
				return
			}
		}
	}
}

func (s *agentShadow) computedCollections() iter.Seq[row] {
	return func(yield func(row) bool) {
		for _, id := range slices.Sorted(maps.Keys(s.collections)) {
			c := s.collections[id]
			text := canonicalRow(map[string]any{"sum": c.Sum, "squares": c.Squares, "scores": c.Scores, "members": c.Members})
			if !yield(row{rowKey{id}, c.position, text}) {
				return
			}
		}
	}
}

func (s *cohortShadow) computedCohorts(inScope func(nft string) bool) iter.Seq[row] {
	return func(yield func(row) bool) {
		var text []byte
		for nft, i := range sorted(s.index, inScope) {
			cohorts := slices.Clone(s.rows.at(i).cohorts)
			slices.SortFunc(cohorts, func(a, b cohortRow) int {
				return s.keys.all[a.key].Compare(s.keys.all[b.key].CohortKey)
			})
			for n := range cohorts {
				c := s.cohort(i, &cohorts[n])
				text = c.AppendJSON(append(text[:0], `{"cohort":`...))
				text = fmt.Appendf(text, `,"observed_at":%q,"position":%d,"samples":%d,"score":`, c.LastUpdated, cohorts[n].position, c.SampleCount)
				text = append(reputation.AppendNumber(text, *c.PersonalScore), '}')
				if !yield(row{rowKey{nft, c.ModelID, string(c.TaskType)}, cohorts[n].position, text}) {
					return
				}
			}
		}
	}
}

func (s *cohortShadow) computedMembers(inScope func(nft string) bool) iter.Seq[row] {
	return func(yield func(row) bool) {
		for nft, i := range sorted(s.index, inScope) {
			text := canonicalRow(map[string]any{"collection_id": s.rows.at(i).collection})
			if !yield(row{rowKey{nft}, 0, text}) {
				return
			}
		}
	}
}

func canonicalRow(columns map[string]any) []byte {
	text, err := json.Marshal(columns)
	if err == nil {
		text, err = reputation.Canonical(text)
	}
	if err != nil {
		panic(fmt.Sprintf("projections: encode a computed row: %v", err)) // only values that the fold makes
	}
	return text
}

// failureStream are the stored failures of a projection in the order of the log,
// read some at a time: there may be as many as events.
type failureStream struct {
	projection string
	digest     hash.Hash
	stored     []storedFailure // read and not yet compared
	last       int64           // position that was read
	ended      bool
}

type storedFailure struct {
	Position    int64
	NFT, Reason string
}

// failurePage is how many failures are read at once.
const failurePage = 1000

// peek is the next stored failure, or nil.
func (f *failureStream) peek(ctx context.Context, conn *pgx.Conn) (*storedFailure, error) {
	if len(f.stored) == 0 && !f.ended {
		rows, err := conn.Query(ctx, `
			SELECT position, nft_id, reason FROM projection_failures WHERE projection = $1 AND position > $2 ORDER BY position LIMIT $3`,
			f.projection, f.last, failurePage)
		if err != nil {
			return nil, unavailable("read failures", err)
		}
		if f.stored, err = pgx.CollectRows(rows, pgx.RowToStructByPos[storedFailure]); err != nil {
			return nil, unavailable("read failures", err)
		}
		f.ended = len(f.stored) < failurePage
		if n := len(f.stored); n > 0 {
			f.last = f.stored[n-1].Position
		}
	}
	if len(f.stored) == 0 {
		return nil, nil
	}
	return &f.stored[0], nil
}

// compareFailures compares the events that were set aside since the last call with
// the stored failures, and at the end of the log also those that are left.
func (v *verification) compareFailures(ctx context.Context, p *verified, end bool) error {
	aside := p.setAside()
	defer aside.drop()
	if v.NFT != "" || v.Sample > 0 {
		return nil // they are not rows of an NFT
	}
	computed := aside.pending
	for {
		stored, err := p.failures.peek(ctx, v.rows)
		if err != nil {
			return err
		}
		at := int64(math.MaxInt64)
		if len(computed) > 0 {
			at = computed[0].Position
		} else if !end {
			return nil // what is stored further on may be computed later
		}
		switch {
		case stored == nil && len(computed) == 0:
			return nil
		case stored != nil && stored.Position < at:
			v.unexpected(failuresTable, rowKey{p.name, strconv.FormatInt(stored.Position, 10)}, &stored.Position, stored.text())
			p.failures.take()
		case stored == nil || stored.Position > at:
			v.missing(failuresTable, failureRow(&computed[0]))
			computed = computed[1:]
		default:
			v.compareRow(failuresTable, failureRow(&computed[0]), stored.text())
			p.failures.take()
			computed = computed[1:]
		}
	}
}

// take goes on to the next failure.
func (f *failureStream) take() {
	fmt.Fprintf(f.digest, "%d %s\n", f.stored[0].Position, f.stored[0].text())
	f.stored = f.stored[1:]
}

func (f *storedFailure) text() []byte {
	return canonicalRow(map[string]any{"nft_id": f.NFT, "reason": f.Reason})
}

func failureRow(f *Failure) row {
	stored := storedFailure{f.Position, f.NFT, string(f.Reason)}
	return row{rowKey{f.Projection, strconv.FormatInt(f.Position, 10)}, f.Position, stored.text()}
}
