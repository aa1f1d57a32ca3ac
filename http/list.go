package http

import (
	"net/http"

	"dixie/reputation"
)

const (
	maxListed     = 1000
	defaultListed = 100
)

// listedAgent is a line in a list of agents.
type listedAgent struct {
	NFT           string               `json:"nft_id"`
	CollectionID  string               `json:"collection_id"`
	State         reputation.State     `json:"state"`
	PersonalScore *float64             `json:"personal_score"`
	BlendedScore  float64              `json:"blended_score"`
	SampleCount   int64                `json:"sample_count"`
	LastUpdated   reputation.Timestamp `json:"last_updated"`
}

type agentList struct {
	Reputations []listedAgent `json:"reputations"`
	NextCursor  *string       `json:"next_cursor"` // null on the last page
	Position    int64         `json:"position"`
}

// listReputations serves GET /api/reputation: agents by NFT id, one page at a
// time.
func (s *Server) listReputations(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r, append([]string{"state", "limit", "cursor"}, freshness...)...)
	state := reputation.State(q.values.Get("state"))
	if q.has("state") && !state.Valid() {
		q.fail("state", "must be cold, warming, established or authoritative")
	}
	limit := int(q.integer("limit", 1, maxListed, defaultListed))
	after := q.cursor("cursor")
	if err := s.waitFor(r, q, reputation.ProjectionAggregates); err != nil {
		return err
	}
	// One more than asked for tells whether there is another page.
	rows, position, err := s.Reputations.List(r.Context(), state, after, limit+1)
	if err == nil {
		err = q.contains(position)
	}
	if err != nil {
		return err
	}
	answer := agentList{Reputations: make([]listedAgent, 0, len(rows)), Position: position}
	for _, row := range rows[:min(limit, len(rows))] {
		g := row.Aggregate
		answer.Reputations = append(answer.Reputations, listedAgent{
			NFT: row.NFT, CollectionID: g.CollectionID, State: g.State, PersonalScore: g.PersonalScore,
			BlendedScore: g.BlendedScore, SampleCount: g.SampleCount, LastUpdated: g.LastUpdated,
		})
	}
	if len(rows) > limit {
		cursor := newCursor(rows[limit-1].NFT)
		answer.NextCursor = &cursor
	}
	setPosition(w, position)
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// populationView is a collection as a whole.
type populationView struct {
	CollectionID   string  `json:"collection_id"`
	Mean           float64 `json:"mean"`            // of the members' personal scores; the neutral prior without any
	Variance       float64 `json:"variance"`        // of the population
	PopulationSize int64   `json:"population_size"` // members with a personal score
	StoreCount     int64   `json:"store_count"`     // members
}

type populationList struct {
	Collections []populationView `json:"collections"`
	NextCursor  *string          `json:"next_cursor"` // null on the last page
	Position    int64            `json:"position"`
}

// listPopulations serves GET /api/reputation/population: collections by id, one
// page at a time.
func (s *Server) listPopulations(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r, append([]string{"limit", "cursor"}, freshness...)...)
	limit := int(q.integer("limit", 1, maxListed, defaultListed))
	after := q.cursor("cursor")
	if err := s.waitFor(r, q, reputation.ProjectionAggregates); err != nil {
		return err
	}
	rows, position, err := s.Reputations.Populations(r.Context(), after, limit+1)
	if err == nil {
		err = q.contains(position)
	}
	if err != nil {
		return err
	}
	answer := populationList{Collections: make([]populationView, 0, len(rows)), Position: position}
	for _, row := range rows[:min(limit, len(rows))] {
		c := row.Collection
		answer.Collections = append(answer.Collections, populationView{
			CollectionID: row.CollectionID, Mean: c.Mean(s.Params.NeutralPrior), Variance: c.Variance(),
			PopulationSize: c.Scores, StoreCount: c.Members,
		})
	}
	if len(rows) > limit {
		cursor := newCursor(rows[limit-1].CollectionID)
		answer.NextCursor = &cursor
	}
	setPosition(w, position)
	writeJSON(w, http.StatusOK, answer)
	return nil
}
