package http

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// forwarding says how a request about an NFT goes on to finn.
type forwarding struct {
	needs Access   // least that the caller's wallet has to be to the NFT
	to    []string // path at finn, in which {nftId} and other variables are filled in
	query []string // parameters that go along
	plain bool     // without the agent's memory, of which the request is itself
}

// The requests that go on to finn. Delegates read an agent's memory; only its
// owner changes it.
var (
	readMemory   = forwarding{needs: Delegated, to: []string{"api", "memory", "{nftId}", "projection"}, plain: true}
	readHistory  = forwarding{needs: Delegated, to: []string{"api", "memory", "{nftId}", "history"}, query: []string{"limit", "cursor", "includeSealed"}, plain: true}
	sealMemory   = forwarding{needs: Owner, to: []string{"api", "memory", "{nftId}", "seal"}, plain: true}
	deleteMemory = forwarding{needs: Owner, to: []string{"api", "memory", "{nftId}", "{conversationId}"}, plain: true}

	createSchedule  = forwarding{needs: Owner, to: []string{"api", "schedule"}}
	listSchedules   = forwarding{needs: Owner, to: []string{"api", "schedule", "{nftId}"}}
	cancelSchedule  = forwarding{needs: Owner, to: []string{"api", "schedule", "{scheduleId}"}}
	scheduleHistory = forwarding{needs: Owner, to: []string{"api", "schedule", "{scheduleId}", "history"}}

	readInsights = forwarding{needs: Owner, to: []string{"api", "learning", "{nftId}", "insights"}, query: []string{"limit"}}
	readGaps     = forwarding{needs: Owner, to: []string{"api", "learning", "{nftId}", "gaps"}}
)

var errWallet = &requestError{
	status: http.StatusForbidden, code: "wallet_required",
	message: "this is for the wallet that owns the NFT: sign in with it, an API key has none",
}

var errNotOwner = &requestError{
	status: http.StatusForbidden, code: "forbidden",
	message: "the wallet does not own this NFT, or may not do this with it",
}

// forNFT forwards requests whose path names the NFT.
func (s *Server) forNFT(f forwarding) handler {
	return s.withFinn(func(w http.ResponseWriter, r *http.Request) error {
		q := parseQuery(r, f.query...)
		if q.err != nil {
			return q.err
		}
		ids, err := pathIDs(r)
		if err != nil {
			return err
		}
		if err := s.allow(r, ids["nftId"], f.needs); err != nil {
			return err
		}
		var body jsontext.Value
		if r.Method == http.MethodPost {
			if body, err = jsonBody(r); err != nil {
				return err
			}
		}
		return s.forward(w, r, f, ids, q.values, body)
	})
}

// pathIDs are the variables of the path, each of which can only name itself.
func pathIDs(r *http.Request) (map[string]string, error) {
	ids := map[string]string{}
	for name, escaped := range infoFrom(r.Context()).vars {
		id, err := url.PathUnescape(escaped)
		valid, rule := validID, idRule
		if name == "nftId" {
			valid, rule = nameable, nftRule+" and not be dots alone"
		}
		if err != nil || !valid(id) {
			return nil, badRequest(name, rule)
		}
		ids[name] = id
	}
	return ids, nil
}

// allow lets only wallets through that are enough to an NFT. Reads may rest on an
// old answer, everything else asks finn.
func (s *Server) allow(r *http.Request, nft string, needs Access) error {
	wallet := callerFrom(r.Context()).Wallet
	if wallet == "" {
		return errWallet
	}
	freshness := Current
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		freshness = Stale
	}
	access, err := s.access(r.Context(), wallet, nft, freshness)
	if err != nil {
		return err
	}
	if access < needs {
		return errNotOwner
	}
	return nil
}

// forward asks finn and answers with its answer.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, f forwarding, ids map[string]string, query url.Values, body []byte) error {
	ask := UpstreamRequest{Method: r.Method, Path: make([]string, len(f.to)), Query: query, Header: http.Header{}, Body: body}
	for i, segment := range f.to {
		if id, ok := ids[trimBraces(segment)]; ok {
			segment = id
		}
		ask.Path[i] = segment
	}
	if ask.Method == http.MethodHead {
		ask.Method = http.MethodGet
	}
	if !f.plain {
		s.addMemory(r.Context(), ask.Header)
	}
	if accepts(r, eventStream) {
		ask.Header.Set("Accept", eventStream)
	}
	response, err := s.toFinn(r, ask)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return s.relay(w, r, response)
}

// trimBraces is x of {x}, and empty for a fixed segment.
func trimBraces(segment string) string {
	if segment[0] != '{' {
		return ""
	}
	return segment[1 : len(segment)-1]
}

// postSchedule serves POST /api/schedule, whose body names the NFT.
func (s *Server) postSchedule(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).err; err != nil {
		return err
	}
	body, err := jsonBody(r)
	if err != nil {
		return err
	}
	var about struct {
		NFT string `json:"nftId"`
	}
	if json.Unmarshal(body, &about) != nil || !nameable(about.NFT) {
		return badRequest("nftId", nftRule)
	}
	if err := s.allow(r, about.NFT, createSchedule.needs); err != nil {
		return err
	}
	return s.forward(w, r, createSchedule, nil, nil, body)
}

// forSchedule forwards requests about a schedule, which is one of the NFT that
// the parameter nftId names, or of the only one that the wallet owns.
func (s *Server) forSchedule(f forwarding) handler {
	return s.withFinn(func(w http.ResponseWriter, r *http.Request) error {
		q := parseQuery(r, "nftId")
		if q.err != nil {
			return q.err
		}
		ids, err := pathIDs(r)
		if err != nil {
			return err
		}
		nft, err := s.scheduleNFT(r, q)
		if err != nil {
			return err
		}
		if err := s.allow(r, nft, f.needs); err != nil {
			return err
		}
		if err := s.hasSchedule(r, nft, ids["scheduleId"]); err != nil {
			return err
		}
		return s.forward(w, r, f, ids, nil, nil)
	})
}

// scheduleNFT is the NFT whose schedule is meant.
func (s *Server) scheduleNFT(r *http.Request, q *query) (string, error) {
	if q.has("nftId") {
		nft := q.values.Get("nftId")
		if !nameable(nft) {
			return "", badRequest("nftId", nftRule)
		}
		return nft, nil
	}
	wallet := callerFrom(r.Context()).Wallet
	if wallet == "" {
		return "", errWallet
	}
	owned, err := s.Ownership.Owned(r.Context(), wallet)
	switch {
	case err != nil:
		return "", err
	case len(owned) == 0:
		return "", errNotOwner
	case len(owned) > 1:
		return "", badRequest("nftId", "is required, as the wallet owns more than one NFT")
	}
	return owned[0].ID, nil
}

// hasSchedule fails unless a schedule is one of an NFT's: its id alone does not
// say whose it is.
func (s *Server) hasSchedule(r *http.Request, nft, id string) error {
	response, err := s.toFinn(r, UpstreamRequest{Method: http.MethodGet, Path: []string{"api", "schedule", nft}})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	value, err := readAnswer(response)
	if err != nil {
		return err
	}
	var list struct {
		Schedules []struct {
			ScheduleID string `json:"scheduleId"`
			ID         string `json:"id"`
		} `json:"schedules"`
	}
	if json.Unmarshal(value, &list) != nil {
		return errUpstreamAnswer
	}
	for _, one := range list.Schedules {
		if slices.Contains([]string{one.ScheduleID, one.ID}, id) {
			return nil
		}
	}
	return &requestError{status: http.StatusNotFound, code: "not_found", message: "the NFT has no such schedule"}
}
