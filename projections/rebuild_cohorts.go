package projections

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"dixie/eventstore"
	"dixie/reputation"
)

// cohortShadow is the cohorts projection in memory. The fold needs only the cohort
// that an event counts for, so that cohorts need not be maps.
type cohortShadow struct {
	aside
	params reputation.Params
	names  *names

	index rowIndex
	rows  chunked[memberRow]
	keys  cohortKeys
	rare  map[rareCohort]reputation.Timestamp // spelled so that they have no compact form

	changed changes
	touched int32              // keeps the compiler from leaving touch out
	joined  []int32            // rows that are new since they were saved
	cleared map[int32]struct{} // rows that were reset since they were saved
}

type memberRow struct {
	nft, collection string
	position        int64 // of the last event that changed a cohort
	cohorts         []cohortRow
}

// cohortRow is a cohort. Those of an NFT are sorted by key.
type cohortRow struct {
	key       int32 // in cohortKeys
	score     float64
	samples   int64
	updatedAt uint64 // compact, or rareTime
	position  int64  // of the last event in it
}

type rareCohort struct{ row, key int32 }

func newCohortShadow(params reputation.Params) *cohortShadow {
	return &cohortShadow{
		aside: aside{projection: Cohorts}, params: params, names: newNames(),
		index: rowIndex{}, keys: cohortKeys{numbers: map[reputation.CohortKey]int32{}},
		rare: map[rareCohort]reputation.Timestamp{}, cleared: map[int32]struct{}{},
	}
}

func (s *cohortShadow) live() []string { return []string{cohortsTable, membersTable} }
func (s *cohortShadow) nfts() int64    { return int64(s.rows.length) }

// fold implements [shadow].
func (s *cohortShadow) fold(events []eventstore.PageEvent) {
	s.index.each(events, s.touch, s.foldOne)
}

// touch has a row read into the cache.
func (s *cohortShadow) touch(i int32) {
	cohorts := s.rows.at(i).cohorts
	for n := range cohorts {
		s.touched += cohorts[n].key
	}
}

// foldOne folds the event of a row, if there is one.
func (s *cohortShadow) foldOne(e *eventstore.PageEvent, i int32) {
	if e.Err != nil {
		s.set(e, e.Err)
		return
	}
	known := i != noRow
	collection := ""
	if known {
		collection = s.rows.at(i).collection
	}
	cohort, counts := s.cohortFor(i, &e.Event)
	cleared, err := s.params.FoldCohort(&cohort, collection, e.NFT, &e.Event)
	if err != nil {
		s.set(e, err)
		return
	}
	if !known {
		i = s.add(e.NFT, e.Event.CollectionID)
	}
	if cleared {
		s.clear(i, e.Position)
	}
	if counts {
		s.put(i, &cohort, e.Position)
	}
}

// cohortFor is the cohort of a row that an event counts for, if it counts for one.
func (s *cohortShadow) cohortFor(i int32, e *reputation.Event) (cohort reputation.TaskCohort, counts bool) {
	key, _, counts := reputation.CohortOf(e)
	if !counts {
		return cohort, false
	}
	if number, known := s.keys.known(key); known && i != noRow {
		row := s.rows.at(i)
		if n, found := row.find(number); found {
			return s.cohort(i, &row.cohorts[n]), true
		}
	}
	return reputation.TaskCohort{ModelID: key.Model, TaskType: key.Task}, true
}

func (s *cohortShadow) add(nft, collection string) int32 {
	nft = strings.Clone(nft) // it is part of an event
	i := s.rows.add(memberRow{nft: nft, collection: s.names.share(collection)})
	s.index[nft] = i
	if s.changed.loaded {
		s.joined = append(s.joined, i)
	}
	return i
}

func (r *memberRow) find(key int32) (n int, found bool) {
	return slices.BinarySearchFunc(r.cohorts, key, func(c cohortRow, key int32) int { return cmp.Compare(c.key, key) })
}

// cohort is what a row stands for.
func (s *cohortShadow) cohort(i int32, row *cohortRow) reputation.TaskCohort {
	key, score := s.keys.all[row.key].CohortKey, row.score
	cohort := reputation.TaskCohort{ModelID: key.Model, TaskType: key.Task, PersonalScore: &score, SampleCount: row.samples}
	if row.updatedAt == rareTime {
		cohort.LastUpdated = s.rare[rareCohort{i, row.key}]
	} else {
		cohort.LastUpdated = reputation.ExpandTimestamp(row.updatedAt)
	}
	return cohort
}

// put keeps a cohort that has changed.
func (s *cohortShadow) put(i int32, cohort *reputation.TaskCohort, position int64) {
	row := s.rows.at(i)
	s.changed.note(i, row.position)
	row.position = position
	s.keep(i, cohort, position)
}

// keep keeps a cohort. The position is that of the last event in it.
func (s *cohortShadow) keep(i int32, cohort *reputation.TaskCohort, position int64) {
	row := s.rows.at(i)
	number := s.keys.number(cohort.Key())
	n, found := row.find(number)
	if !found {
		s.keys.all[number].rows++
		if len(row.cohorts) == cap(row.cohorts) {
			row.cohorts = grown(row.cohorts)
		}
		row.cohorts = slices.Insert(row.cohorts, n, cohortRow{key: number})
	}
	c := &row.cohorts[n]
	c.score, c.samples, c.position = *cohort.PersonalScore, cohort.SampleCount, position
	s.keepTime(i, c, cohort.LastUpdated)
}

// grown has room for a few more: append would double it.
func grown(cohorts []cohortRow) []cohortRow {
	more := make([]cohortRow, len(cohorts), len(cohorts)+max(2, len(cohorts)/4))
	copy(more, cohorts)
	return more
}

func (s *cohortShadow) keepTime(i int32, c *cohortRow, at reputation.Timestamp) {
	form, ok := at.Compact()
	if c.updatedAt == rareTime {
		delete(s.rare, rareCohort{i, c.key})
	}
	c.updatedAt = form
	if !ok {
		c.updatedAt = rareTime
		s.rare[rareCohort{i, c.key}] = at
	}
}

// clear drops the cohorts of an NFT.
func (s *cohortShadow) clear(i int32, position int64) {
	row := s.rows.at(i)
	s.changed.note(i, row.position)
	row.position = position
	for n := range row.cohorts {
		c := &row.cohorts[n]
		if c.updatedAt == rareTime {
			delete(s.rare, rareCohort{i, c.key})
		}
		s.keys.drop(c.key)
	}
	row.cohorts = nil
	if s.changed.loaded {
		s.cleared[i] = struct{}{}
	}
}

// cohortKeys numbers the keys that cohorts have.
type cohortKeys struct {
	numbers map[reputation.CohortKey]int32
	all     []numberedKey
	free    []int32 // numbers that no cohort has any more
	recent  recent
}

type numberedKey struct {
	reputation.CohortKey
	rows int64 // that have it
}

// known is the number of a key, if it has one.
func (k *cohortKeys) known(key reputation.CohortKey) (number int32, known bool) {
	recent := k.recent.of(key.Model, string(key.Task))
	if int(*recent) < len(k.all) && k.all[*recent].CohortKey == key {
		return *recent, true
	}
	number, known = k.numbers[key]
	if known {
		*recent = number
	}
	return number, known
}

// number is the number of a key, which gets one.
func (k *cohortKeys) number(key reputation.CohortKey) int32 {
	number, known := k.known(key)
	if known {
		return number
	}
	// They may be parts of an event.
	key = reputation.CohortKey{Model: strings.Clone(key.Model), Task: reputation.TaskType(strings.Clone(string(key.Task)))}
	if last := len(k.free) - 1; last >= 0 {
		number, k.free = k.free[last], k.free[:last]
	} else {
		number = int32(len(k.all))
		k.all = append(k.all, numberedKey{})
	}
	k.all[number] = numberedKey{CohortKey: key}
	k.numbers[key] = number
	return number
}

// drop notes that a cohort has a key no more.
func (k *cohortKeys) drop(number int32) {
	key := &k.all[number]
	if key.rows--; key.rows == 0 {
		delete(k.numbers, key.CohortKey)
		*key = numberedKey{}
		k.free = append(k.free, number)
	}
}

func (s *cohortShadow) load(ctx context.Context, l loader) error {
	if err := s.loadMembers(ctx, l); err != nil {
		return err
	}
	rows := inOrder(s.rows.length, s.nft)
	var (
		i               int32
		row             *memberRow
		cohorts, sorted []cohortRow // what is left of the row's, in the order of the table, and room for the next
	)
	columns := "nft_id, model_id, task_type, cohort, score, samples, observed_at, position"
	return l.copyRows(ctx, cohortsTable, columns, func(w *copyWriter) bool {
		for ; len(cohorts) == 0; rows = rows[1:] {
			if len(rows) == 0 {
				return false
			}
			row, i = s.rows.at(rows[0]), rows[0]
			cohorts = s.ordered(row, sorted)
			sorted = cohorts[:0]
		}
		s.tuple(w, row, s.cohort(i, &cohorts[0]), cohorts[0].position)
		cohorts = cohorts[1:]
		return true
	})
}

// ordered are the cohorts of a row by model and task, in a slice that is used again.
func (s *cohortShadow) ordered(row *memberRow, into []cohortRow) []cohortRow {
	into = append(into[:0], row.cohorts...)
	slices.SortFunc(into, func(a, b cohortRow) int {
		one, other := &s.keys.all[a.key].CohortKey, &s.keys.all[b.key].CohortKey
		return cmp.Or(strings.Compare(one.Model, other.Model), strings.Compare(string(one.Task), string(other.Task)))
	})
	return into
}

func (s *cohortShadow) nft(i int32) string { return s.rows.at(i).nft }

func (s *cohortShadow) tuple(w *copyWriter, row *memberRow, cohort reputation.TaskCohort, position int64) {
	w.tuple(8)
	w.text(row.nft)
	w.text(cohort.ModelID)
	w.text(string(cohort.TaskType))
	w.value(func(dst []byte) []byte { return cohort.AppendJSON(append(dst, jsonbVersion)) })
	w.double(*cohort.PersonalScore)
	w.bigint(cohort.SampleCount)
	w.text(cohort.LastUpdated.String())
	w.bigint(position)
}

func (s *cohortShadow) loadMembers(ctx context.Context, l loader) error {
	rows := inOrder(s.rows.length, s.nft)
	return l.copyRows(ctx, membersTable, "nft_id, collection_id", func(w *copyWriter) bool {
		if len(rows) == 0 {
			return false
		}
		row := s.rows.at(rows[0])
		rows = rows[1:]
		w.tuple(2)
		w.text(row.nft)
		w.text(row.collection)
		return true
	})
}

// save writes what has changed since the last call of saved.
func (s *cohortShadow) save(ctx context.Context, tx pgx.Tx, beside func(string) string) error {
	members := map[string]string{}
	for _, i := range s.joined {
		members[s.rows.at(i).nft] = s.rows.at(i).collection
	}
	var cleared []string
	for i := range s.cleared {
		cleared = append(cleared, s.rows.at(i).nft)
	}
	var batch pgx.Batch
	queueMembers(&batch, beside(membersTable), members)
	queueCleared(&batch, beside(cohortsTable), cleared)
	slices.Sort(s.changed.rows)
	for part := range s.changedCohorts() {
		queueCohorts(&batch, beside(cohortsTable), part)
		if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
			return unavailable("save cohorts", err)
		}
		batch = pgx.Batch{}
	}
	if batch.Len() == 0 {
		return nil
	}
	return unavailable("save cohorts", tx.SendBatch(ctx, &batch).Close())
}

// changedCohorts yields the cohorts that are not yet as they were saved, some at a
// time, each time in the same slice.
func (s *cohortShadow) changedCohorts() iter.Seq[[]changedCohort] {
	return func(yield func([]changedCohort) bool) {
		var part []changedCohort
		for _, i := range s.changed.rows {
			row := s.rows.at(i)
			for n := range row.cohorts {
				c := &row.cohorts[n]
				if c.position <= s.changed.since {
					continue
				}
				part = append(part, changedCohort{
					nft: row.nft, cohort: s.cohort(i, c), position: c.position,
				})
				if len(part) == saveRows {
					if !yield(part) {
						return
					}
					part = part[:0]
				}
			}
		}
		if len(part) > 0 {
			yield(part)
		}
	}
}

func (s *cohortShadow) saved(position int64) {
	s.changed.clear(position)
	s.joined = nil
	clear(s.cleared)
}
