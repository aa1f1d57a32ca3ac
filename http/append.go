package http

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"dixie/reputation"
)

const (
	maxBatchBytes  = 1 << 20
	maxBatchEvents = 1000
	// maxReported bounds the problems that one answer lists.
	maxReported = 200
)

// eventResult is what became of one event.
type eventResult struct {
	EventID  string             `json:"event_id"`
	Position int64              `json:"position"`
	Status   reputation.Outcome `json:"status"`
}

type appendAnswer struct {
	Results  []eventResult `json:"results"`
	Position int64         `json:"position"` // of the last of the events
}

type conflictAnswer struct {
	errorBody
	Conflicts []string `json:"conflicts"`
	appendAnswer
}

// appendEvents serves POST /api/reputation/{nftId}/events: one event, or an array.
func (s *Server) appendEvents(w http.ResponseWriter, r *http.Request) error {
	nft, err := pathNFT(r)
	if err != nil {
		return err
	}
	if err := parseQuery(r).err; err != nil {
		return err
	}
	if err := contentType(r, "application/json"); err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return bodyError(err)
	}
	events, err := decodeEvents(body)
	if err != nil {
		return err
	}
	entries := make([]reputation.Entry, len(events))
	rules := s.appendRules(r.Context())
	for i := range events {
		if err := rules.check(r.Context(), nft, &events[i]); err != nil {
			return err
		}
		entries[i] = reputation.NewEntry(nft, &events[i])
	}
	results, err := s.Log.Append(r.Context(), entries...)
	if err != nil {
		return err
	}
	s.writeAppended(w, r, events, results)
	return nil
}

// mayAppend lets only administrators reset an agent.
func mayAppend(caller Caller, e *reputation.Event) error {
	if e.Type() == reputation.TypeReputationReset && !caller.May(scopeAdmin) {
		return &requestError{
			status: http.StatusForbidden, code: "forbidden",
			message: "a reputation_reset can only be appended by an administrator's key",
		}
	}
	return nil
}

// decodeEvents reads one event or an array of them, and reports the problems of
// all under their index.
func decodeEvents(body []byte) ([]reputation.Event, error) {
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '[' {
		event, err := reputation.Decode(body)
		return []reputation.Event{event}, err
	}
	values, err := split(body)
	if err != nil {
		return nil, err
	}
	events := make([]reputation.Event, len(values))
	var all reputation.InvalidError
	for i, value := range values {
		var invalid *reputation.InvalidError
		events[i], err = reputation.Decode(value)
		if errors.As(reputation.Within(fmt.Sprintf("[%d]", i), err), &invalid) {
			all.Problems = append(all.Problems, invalid.Problems...)
		}
	}
	if len(all.Problems) > 0 {
		all.Problems = all.Problems[:min(len(all.Problems), maxReported)]
		return nil, &all
	}
	return events, nil
}

// split cuts an array into its values. What is wrong within a value is for the
// decoding of that value to report, under its index.
func split(body []byte) ([]jsontext.Value, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	syntax := func(err error) error {
		return badRequest("body", fmt.Sprintf("is not a JSON array of events, found an error after byte %d", dec.InputOffset()))
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntax(err)
	}
	var values []jsontext.Value
	for dec.PeekKind() != ']' {
		value, err := dec.ReadValue()
		if err != nil {
			return nil, syntax(err)
		}
		if values = append(values, value.Clone()); len(values) > maxBatchEvents {
			return nil, badRequest("body", fmt.Sprintf("must have at most %d events", maxBatchEvents))
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntax(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, syntax(err)
	}
	if len(values) == 0 {
		return nil, badRequest("body", "must have at least one event")
	}
	return values, nil
}

// writeAppended answers 201 when something was stored, 200 when all was there
// before, and 409 when an id is taken by other content.
func (s *Server) writeAppended(w http.ResponseWriter, r *http.Request, events []reputation.Event, results []reputation.Appended) {
	status := http.StatusOK
	answer := appendAnswer{Results: make([]eventResult, len(results))}
	var conflicts []string
	for i, result := range results {
		answer.Results[i] = eventResult{EventID: events[i].ID, Position: result.Position, Status: result.Status}
		switch result.Status {
		case reputation.Added:
			status = http.StatusCreated
		case reputation.Conflict:
			conflicts = append(conflicts, events[i].ID)
			continue
		}
		answer.Position = max(answer.Position, result.Position)
	}
	setPosition(w, answer.Position)
	if len(conflicts) == 0 {
		writeJSON(w, status, answer)
		return
	}
	writeJSON(w, http.StatusConflict, conflictAnswer{
		errorBody: errorBody{
			Error:     "conflict",
			Message:   fmt.Sprintf("%d of %d events have an id that is stored with other content; the others are stored", len(conflicts), len(events)),
			RequestID: RequestID(r.Context()),
		},
		Conflicts:    conflicts,
		appendAnswer: answer,
	})
}
