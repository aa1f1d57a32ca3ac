package http

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"dixie/reputation"
)

// resetRequest is the body of a reset.
type resetRequest struct {
	Reason  string  `json:"reason"`
	Actor   *string `json:"actor"`    // the caller's name when absent
	EventID *string `json:"event_id"` // of the event that is appended; made when absent
}

// resetReputation serves POST /api/admin/reputation/{nftId}/reset: it appends the
// event that makes an agent start again. What was known of it stays in the log.
func (s *Server) resetReputation(w http.ResponseWriter, r *http.Request) error {
	nft, err := pathNFT(r)
	if err != nil {
		return err
	}
	if err := parseQuery(r).err; err != nil {
		return err
	}
	request, err := readReset(r)
	if err != nil {
		return err
	}
	event, err := s.resetEvent(r, nft, request)
	if err != nil {
		return err
	}
	results, err := s.Log.Append(r.Context(), reputation.NewEntry(nft, event))
	if err != nil {
		return err
	}
	if results[0].Status == reputation.Conflict {
		if err := s.sameReset(r, nft, event, &results[0]); err != nil {
			return err
		}
	}
	writeReset(w, event, results[0])
	return nil
}

func readReset(r *http.Request) (request resetRequest, err error) {
	if err := contentType(r, "application/json"); err != nil {
		return request, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return request, bodyError(err)
	}
	if err := json.Unmarshal(body, &request, json.RejectUnknownMembers(true)); err != nil {
		return request, resetBodyError(err)
	}
	return request, nil
}

// resetBodyError names the member that is wrong, if it is one.
func resetBodyError(err error) error {
	var semantic *json.SemanticError
	field := ""
	if errors.As(err, &semantic) {
		field = strings.TrimPrefix(string(semantic.JSONPointer), "/")
	}
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return badRequest(clip(field), "unknown member; a reset has reason, actor and event_id")
	case errors.As(err, &syntactic) || field == "":
		return badRequest("body", "must be a JSON object with the members reason and, if you like, actor and event_id")
	}
	return badRequest(clip(field), "must be a string")
}

// resetEvent is the event of a reset, checked.
func (s *Server) resetEvent(r *http.Request, nft string, request resetRequest) (*reputation.Event, error) {
	caller := callerFrom(r.Context())
	id, err := resetID(r, caller, nft, request.EventID)
	if err != nil {
		return nil, err
	}
	actor := caller.Name
	if request.Actor != nil {
		actor = *request.Actor
	}
	collection, err := s.collectionOf(r, nft)
	if err != nil {
		return nil, err
	}
	event := &reputation.Event{
		ID: id, AgentID: nft, CollectionID: collection,
		Timestamp: reputation.TimestampOf(s.Now().Truncate(time.Millisecond)),
		Body:      reputation.ReputationReset{Reason: request.Reason, Actor: actor},
	}
	return event, invalidReset(event.Validate())
}

// invalidReset tells which members of the body make an invalid event.
func invalidReset(err error) error {
	var invalid *reputation.InvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	return &requestError{
		status: http.StatusBadRequest, code: "invalid_request", message: invalid.Error(), errors: invalid.Problems,
	}
}

const idempotencyHeader = "Idempotency-Key"

// resetID is the identity of a reset: that which the body gives it, else one that
// the same caller's same key gives again, else a new one.
func resetID(r *http.Request, caller Caller, nft string, given *string) (string, error) {
	key := r.Header.Get(idempotencyHeader)
	switch {
	case key == "" && given == nil:
		return uuid.NewString(), nil
	case key == "":
		return *given, nil
	case given != nil:
		return "", badRequest(idempotencyHeader, "does not go with event_id, which is an identity already")
	case len(key) > 255:
		return "", badRequest(idempotencyHeader, "must have at most 255 bytes")
	}
	name := strings.Join([]string{"reset", caller.Name, nft, key}, "\x00")
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(name)).String(), nil
}

// collectionOf is the collection of an NFT, whose first event may just have been
// appended.
func (s *Server) collectionOf(r *http.Request, nft string) (string, error) {
	collection, err := s.Past.Collection(r.Context(), nft)
	if !errors.Is(err, reputation.ErrNotFound) {
		return collection, err
	}
	head, err := s.Log.Head(r.Context())
	if err != nil {
		return "", err
	}
	if err := s.waitUntil(r, &query{}, head, reputation.ProjectionCohorts); err != nil {
		return "", err
	}
	return s.Past.Collection(r.Context(), nft)
}

// sameReset makes a duplicate of a conflict with an event that differs only in its
// time: the same reset, sent again. Any other is a conflict still.
func (s *Server) sameReset(r *http.Request, nft string, event *reputation.Event, result *reputation.Appended) error {
	stored, err := s.Log.Read(r.Context(), result.Position-1, 1)
	if err != nil {
		return err
	}
	if len(stored) == 1 && stored[0].NFT == nft {
		was, err := stored[0].Event()
		if err == nil && was.Body == event.Body && was.CollectionID == event.CollectionID {
			result.Status = reputation.Duplicate
			return nil
		}
	}
	return &requestError{
		status: http.StatusConflict, code: "conflict",
		message: "another event has this event_id or was made with this Idempotency-Key; nothing was stored",
	}
}

func writeReset(w http.ResponseWriter, event *reputation.Event, result reputation.Appended) {
	status := http.StatusCreated
	if result.Status == reputation.Duplicate {
		status = http.StatusOK
	}
	setPosition(w, result.Position)
	writeJSON(w, status, eventResult{EventID: event.ID, Position: result.Position, Status: result.Status})
}
