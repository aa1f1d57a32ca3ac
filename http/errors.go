package http

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"dixie/reputation"
)

// ErrUnauthenticated says that nobody is known to hold a token.
var ErrUnauthenticated = errors.New("unauthenticated")

var (
	errNoToken  = errors.New("no bearer token")
	errNoRoute  = errors.New("no such route")
	errMethod   = errors.New("method not allowed")
	errInternal = errors.New("internal error")
	errStreams  = errors.New("too many open streams")
)

// requestError is a request that cannot be served as it is. Its texts are for the
// caller.
type requestError struct {
	status  int
	code    string
	message string
	errors  []reputation.Problem
}

func (e *requestError) Error() string { return e.message }

func badRequest(field, detail string) error {
	return &requestError{
		status: http.StatusBadRequest, code: "invalid_request", message: field + ": " + detail,
		errors: []reputation.Problem{{Field: field, Detail: detail}},
	}
}

// scopeError says which scope a caller lacks.
type scopeError string

func (e scopeError) Error() string { return fmt.Sprintf("the key lacks the scope %q", string(e)) }

// errorBody is the JSON of every error.
type errorBody struct {
	Error      string               `json:"error"`
	Message    string               `json:"message"`
	RequestID  string               `json:"request_id"`
	RetryAfter int                  `json:"retry_after,omitzero"` // seconds
	Errors     []reputation.Problem `json:"errors,omitempty"`
}

// retryAfter is how long callers are asked to wait before they try again.
const retryAfter = time.Second

// describe is the only place where an error becomes a status. Errors that it does
// not know are a 500, and only the log sees their text.
func describe(err error) (status int, body errorBody) {
	var request *requestError
	var invalid *reputation.InvalidError
	var scope scopeError
	var tooLarge *http.MaxBytesError
	var rebuilding *reputation.RebuildingError
	switch {
	case errors.As(err, &request):
		return request.status, errorBody{Error: request.code, Message: request.message, Errors: request.errors}
	case errors.As(err, &invalid):
		return http.StatusBadRequest, errorBody{Error: "invalid_event", Message: "the request has invalid events, nothing was stored", Errors: invalid.Problems}
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, errorBody{Error: "body_too_large", Message: fmt.Sprintf("the body must have at most %d bytes", tooLarge.Limit)}
	case errors.As(err, &scope):
		return http.StatusForbidden, errorBody{Error: "insufficient_scope", Message: scope.Error()}
	case errors.As(err, &rebuilding):
		return http.StatusConflict, errorBody{Error: "rebuilding", Message: rebuilding.Error()}
	case errors.Is(err, errNoToken):
		return http.StatusUnauthorized, errorBody{Error: "unauthorized", Message: "send the header Authorization: Bearer <API key>"}
	case errors.Is(err, ErrUnauthenticated):
		return http.StatusUnauthorized, errorBody{Error: "invalid_token", Message: "the bearer token is not known, or no longer valid"}
	case errors.Is(err, errNoRoute):
		return http.StatusNotFound, errorBody{Error: "not_found", Message: "there is nothing at this path"}
	case errors.Is(err, reputation.ErrNotFound):
		return http.StatusNotFound, errorBody{Error: "not_found", Message: "nothing is known of this NFT"}
	case errors.Is(err, errMethod):
		return http.StatusMethodNotAllowed, errorBody{Error: "method_not_allowed", Message: "the path has other methods, named in the Allow header"}
	case errors.Is(err, reputation.ErrBehind):
		return http.StatusServiceUnavailable, errorBody{Error: "projection_behind", Message: "the projection did not reach the position of at_least in time, try again"}
	case errors.Is(err, errStreams):
		return http.StatusServiceUnavailable, errorBody{Error: "too_many_streams", Message: "too many streams are open, try again later"}
	case errors.Is(err, reputation.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, errorBody{Error: "unavailable", Message: "the database cannot be reached, try again; appending the same events again is safe"}
	}
	return http.StatusInternalServerError, errorBody{Error: "internal_error", Message: "something went wrong here; the log has more under the request id"}
}

// writeError answers with an error.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	s.writeErrorWith(w, r, err, func(body errorBody) any { return body })
}

// writeErrorWith answers with an error that has more to say than its body.
func (s *Server) writeErrorWith(w http.ResponseWriter, r *http.Request, err error, extend func(errorBody) any) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		// Most likely nobody listens any more. Whoever has only closed one direction
		// must not get the empty 200 that net/http makes of no answer.
		panic(http.ErrAbortHandler)
	}
	status, body := describe(err)
	body.RequestID = requestIDFrom(r.Context())
	if status >= 500 {
		s.Logger.WarnContext(r.Context(), "request failed", "request_id", body.RequestID, "status", status, "error", err)
	}
	switch status {
	case http.StatusServiceUnavailable:
		body.RetryAfter = int(retryAfter / time.Second)
		w.Header().Set("Retry-After", strconv.Itoa(body.RetryAfter))
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", challenge(err))
	case http.StatusForbidden:
		var scope scopeError
		if errors.As(err, &scope) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="dixie", error="insufficient_scope", scope="%s"`, string(scope)))
		}
	case http.StatusRequestEntityTooLarge:
		w.Header().Set("Connection", "close")
	}
	writeJSON(w, status, extend(body))
}

// challenge is the WWW-Authenticate header of RFC 6750 §3.
func challenge(err error) string {
	if errors.Is(err, errNoToken) {
		return `Bearer realm="dixie"`
	}
	return `Bearer realm="dixie", error="invalid_token"`
}
