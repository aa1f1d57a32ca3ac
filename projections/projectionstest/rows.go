package projectionstest

import (
	"errors"
	"fmt"
	"math"

	"github.com/google/go-cmp/cmp"

	"dixie/projections"
	"dixie/reputation"
)

// Rows are all rows of the projections, those with JSON in canonical form, and
// without the times at which they were written.
type Rows struct {
	Agents      map[string]string   // the whole state, by NFT
	Aggregates  map[string]string   // as the protocol shows them, by NFT
	Cohorts     map[string][]string // by NFT, in the order of their keys
	Collections map[string]reputation.Collection
	Failures    map[string][]string // in the order of the log, by projection
}

// NewRows are no rows.
func NewRows() Rows {
	return Rows{
		Agents: map[string]string{}, Aggregates: map[string]string{}, Cohorts: map[string][]string{},
		Collections: map[string]reputation.Collection{}, Failures: map[string][]string{},
	}
}

// AddAgent adds what is known of an NFT.
func (r Rows) AddAgent(t TB, nft string, agent *reputation.Agent, cohorts []reputation.TaskCohort) {
	t.Helper()
	r.Agents[nft] = encode(t, agent)
	r.Aggregates[nft] = encode(t, &agent.Aggregate)
	for _, c := range cohorts {
		r.Cohorts[nft] = append(r.Cohorts[nft], encode(t, c))
	}
}

// AddFailure adds an event that was set aside.
func (r Rows) AddFailure(f projections.Failure) {
	r.Failures[f.Projection] = append(r.Failures[f.Projection],
		fmt.Sprintf("%d of %q: %s: %s", f.Position, f.NFT, f.Reason, f.Detail))
}

func encode(t TB, v any) string {
	t.Helper()
	text, err := reputation.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Fold is what the projections of a log should be: its events put one by one
// through the functions of the domain.
func Fold(t TB, log reputation.Log, params reputation.Params) Rows {
	t.Helper()
	f := folding{
		params: params, rows: NewRows(), agents: map[string]*reputation.Agent{},
		cohorts: map[string]*reputation.Cohorts{}, collections: map[string]*reputation.Collection{},
	}
	for after := int64(0); ; {
		events, err := log.Read(t.Context(), after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			return f.finish(t)
		}
		for i := range events {
			f.event(&events[i])
		}
		after = events[len(events)-1].Position
	}
}

type folding struct {
	params      reputation.Params
	rows        Rows
	agents      map[string]*reputation.Agent
	cohorts     map[string]*reputation.Cohorts
	collections map[string]*reputation.Collection
}

func (f *folding) event(r *reputation.Recorded) {
	event, err := r.Event()
	if err != nil {
		f.setAside(r, projections.Aggregates, reputation.ReasonInvalidEvent, err.Error())
		f.setAside(r, projections.Cohorts, reputation.ReasonInvalidEvent, err.Error())
		return
	}
	var aside *reputation.SetAsideError
	agent, collection := value(f.agents, r.NFT), value(f.collections, event.CollectionID)
	if err := f.params.FoldAggregate(agent, collection, r.NFT, &event); errors.As(err, &aside) {
		f.setAside(r, projections.Aggregates, aside.Reason, aside.Detail)
	} else {
		f.agents[r.NFT], f.collections[event.CollectionID] = agent, collection
	}
	cohorts := value(f.cohorts, r.NFT)
	if err := f.params.FoldCohorts(cohorts, r.NFT, &event); errors.As(err, &aside) {
		f.setAside(r, projections.Cohorts, aside.Reason, aside.Detail)
	} else {
		f.cohorts[r.NFT] = cohorts
	}
}

func (f *folding) setAside(r *reputation.Recorded, projection string, reason reputation.Reason, detail string) {
	f.rows.AddFailure(projections.Failure{
		Projection: projection, Position: r.Position, NFT: r.NFT, Reason: reason, Detail: detail,
	})
}

func (f *folding) finish(t TB) Rows {
	t.Helper()
	for nft, agent := range f.agents {
		f.rows.AddAgent(t, nft, agent, f.cohorts[nft].Sorted())
	}
	for id, c := range f.collections {
		f.rows.Collections[id] = *c
	}
	return f.rows
}

// value is the value of a key, and a new one where there is none.
func value[V any](m map[string]*V, key string) *V {
	if v, ok := m[key]; ok {
		return v
	}
	return new(V)
}

// Rows reads all rows through the interfaces.
func (b Backend) Rows(t TB) Rows {
	t.Helper()
	rows := NewRows()
	listed, _, err := b.Reader.List(t.Context(), "", "", math.MaxInt32)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range listed {
		r := b.Reputation(t, row.NFT)
		rows.AddAgent(t, row.NFT, r.Agent, r.Cohorts)
		rows.Aggregates[row.NFT] = encode(t, &row.Aggregate)
	}
	populations, _, err := b.Reader.Populations(t.Context(), "", math.MaxInt32)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range populations {
		rows.Collections[p.CollectionID] = p.Collection
	}
	for _, name := range projections.Names {
		for _, f := range b.Failures(t, name) {
			rows.AddFailure(f)
		}
	}
	return rows
}

// Reputation reads an NFT.
func (b Backend) Reputation(t TB, nft string) projections.Reputation {
	t.Helper()
	r, err := b.Reader.Reputation(t.Context(), nft)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Failures are all events that a projection set aside.
func (b Backend) Failures(t TB, projection string) []projections.Failure {
	t.Helper()
	failures, err := b.Reader.Failures(t.Context(), projection, 0, math.MaxInt32)
	if err != nil {
		t.Fatal(err)
	}
	return failures
}

// CheckFolded waits for the projections and checks that their rows are what one
// pass over the log gives.
func (b Backend) CheckFolded(t TB, params reputation.Params) {
	t.Helper()
	b.Settle(t)
	Same(t, Fold(t, b.Log, params), b.Rows(t))
}

// Same checks that rows are those that are wanted.
func Same(t TB, want, got Rows) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}
