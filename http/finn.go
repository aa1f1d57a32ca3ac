package http

import (
	"net/http"
	"net/url"

	"dixie/reputation"
)

// finnScore is a reputation as finn reads it, in version 1 of that contract.
type finnScore struct {
	Version     int     `json:"version"`
	Score       float64 `json:"score"`
	AsOf        string  `json:"asOfTimestamp"` // with three fractional digits: more are unknown to finn
	SampleCount int64   `json:"sampleCount"`
}

// getFinnScore serves GET /reputation/{nftId}, which finn asks while it routes a
// request. Of an agent of which nothing is known, or nothing yet, the answer is
// null and not 404: finn takes each status but success for a failure, and after
// three does not ask for five minutes. That is also why an id that no agent can
// have is one of which nothing is known.
func (s *Server) getFinnScore(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).err; err != nil {
		return err
	}
	nft, err := url.PathUnescape(pathVariable(r, "nftId"))
	if err != nil || !reputation.ValidNFT(nft) {
		writeJSON(w, http.StatusOK, nil)
		return nil
	}
	standing, err := s.Reputations.Reputation(r.Context(), nft)
	if err != nil {
		return err
	}
	setPosition(w, standing.Position)
	if standing.Agent == nil || standing.Agent.Aggregate.State == reputation.StateCold {
		writeJSON(w, http.StatusOK, nil)
		return nil
	}
	g := &standing.Agent.Aggregate
	writeJSON(w, http.StatusOK, finnScore{
		Version: 1, Score: g.BlendedScore, AsOf: g.LastUpdated.Time().Format(timeLayout), SampleCount: g.SampleCount,
	})
	return nil
}
