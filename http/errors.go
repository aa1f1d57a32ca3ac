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
	errNoRoute     = errors.New("no such route")
	errMethod      = errors.New("method not allowed")
	errInternal    = errors.New("internal error")
	errStreams     = errors.New("too many open streams")
	errConnections = errors.New("too many connections")
	errImports     = errors.New("too many imports go on")
	errPasts       = errors.New("too many requests read the past")
	errSlowPast    = errors.New("reading the past took too long")
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

// replayInstead is what can be done without the limits of a request.
const replayInstead = "take the log home with `dixie export` and use `dixie replay --until`, which has no limit"

// retryAfter is how long callers are asked to wait before they try again.
const retryAfter = time.Second

// never is the RetryAfter of what only another configuration of the service changes.
const never = -1

// refusals are the ways in which callers are not let in, or may not change who is.
var refusals = []struct {
	err    error
	status int
	body   errorBody
}{
	{errNoToken, http.StatusUnauthorized, errorBody{Error: "unauthorized", Message: "send the header Authorization: Bearer <API key>"}},
	{ErrSignInSignature, http.StatusUnauthorized, errorBody{Error: "invalid_signature", Message: "the wallet that the message names has not signed it"}},
	{ErrSignInExpired, http.StatusUnauthorized, errorBody{Error: "message_expired", Message: "the message is not valid at this time: ask the wallet to sign a new one"}},
	{ErrSignInReplayed, http.StatusUnauthorized, errorBody{Error: "message_replayed", Message: "the nonce of the message is used up or not known: get another and ask the wallet to sign a new message"}},
	{ErrSignInRefused, http.StatusUnauthorized, errorBody{Error: "message_refused", Message: "the message is for a site or a chain that may not sign in here"}},
	{ErrNotAdmitted, http.StatusForbidden, errorBody{Error: "forbidden", Message: "the wallet is not on the allowlist"}},
	{errAdminKey, http.StatusForbidden, errorBody{Error: "forbidden", Message: adminKeyHeader + " is not the administrators' key"}},
	{ErrListed, http.StatusConflict, errorBody{Error: "conflict", Message: "the entry is on the allowlist already"}},
	{ErrNotListed, http.StatusNotFound, errorBody{Error: "not_found", Message: "the entry is not on the allowlist"}},
	{errNoSignIn, http.StatusServiceUnavailable, errorBody{Error: "signin_unconfigured", Message: "this service has no key to sign tokens with; API keys work", RetryAfter: never}},
	{ErrUnauthenticated, http.StatusUnauthorized, errorBody{Error: "invalid_token", Message: "the bearer token is not known, or no longer valid"}},
}

// describe is the only place where an error becomes a status. Errors that it does
// not know are a 500, and only the log sees their text.
func describe(err error) (status int, body errorBody) {
	var request *requestError
	var invalid *reputation.InvalidError
	var scope scopeError
	var tooLarge *http.MaxBytesError
	var message *MessageError
	var tooMany *rateError
	var entry *EntryError
	var upstream *UpstreamError
	for _, refusal := range refusals {
		if errors.Is(err, refusal.err) {
			return refusal.status, refusal.body
		}
	}
	var tooLong *reputation.HistoryTooLongError
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
	case errors.As(err, &tooMany):
		return http.StatusTooManyRequests, errorBody{Error: "rate_limited", Message: "too many requests, try again later", RetryAfter: seconds(tooMany.wait)}
	case errors.As(err, &message):
		return http.StatusBadRequest, errorBody{Error: "invalid_message", Message: message.Error(), Errors: []reputation.Problem{{Field: message.Field, Detail: message.Detail}}}
	case errors.As(err, &entry):
		return describe(badRequest(entry.Field, entry.Detail))
	case errors.As(err, &rebuilding):
		return http.StatusConflict, errorBody{Error: "rebuilding", Message: rebuilding.Error()}
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
	case errors.Is(err, errConnections):
		return http.StatusServiceUnavailable, errorBody{Error: "too_many_connections", Message: "too many connections are open, try again"}
	case errors.Is(err, errImports):
		return http.StatusServiceUnavailable, errorBody{Error: "too_many_imports", Message: "too many imports go on, try again later"}
	case errors.Is(err, errNoUpstream):
		return http.StatusServiceUnavailable, errorBody{Error: "identity_unconfigured", Message: "this service runs without finn, which this request needs: FINN_URL is not set", RetryAfter: never}
	case errors.Is(err, ErrOwnershipUnknown):
		return http.StatusServiceUnavailable, errorBody{Error: "identity_unavailable", Message: "it cannot be found out at the moment what the wallet owns, try again"}
	case errors.As(err, &upstream):
		return upstream.describe()
	case errors.Is(err, errUpstreamAnswer):
		return http.StatusBadGateway, errorBody{Error: "upstream_error", Message: "finn gave an answer that makes no sense"}
	case errors.Is(err, ErrCircuitOpen):
		return http.StatusServiceUnavailable, errorBody{Error: "circuit_open", Message: "finn has failed too often just now and is left alone for a moment, try again", RetryAfter: 10}
	case errors.Is(err, ErrUpstreamAway):
		return http.StatusServiceUnavailable, errorBody{Error: "upstream_error", Message: "finn gave no answer, try again"}
	case errors.Is(err, errOutcomes):
		return http.StatusServiceUnavailable, errorBody{Error: "unavailable", Message: "the outcomes of too many chats wait for the database, try again"}
	case errors.As(err, &tooLong):
		return http.StatusUnprocessableEntity, errorBody{Error: "history_too_long", Message: tooLong.Error() + "; " + replayInstead}
	case errors.Is(err, errPasts):
		return http.StatusServiceUnavailable, errorBody{Error: "too_many_histories", Message: "too many requests are reading the past, try again"}
	case errors.Is(err, errSlowPast):
		return http.StatusServiceUnavailable, errorBody{Error: "history_timeout", Message: "reading the past took too long; try again, or " + replayInstead}
	case errors.Is(err, reputation.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, errorBody{Error: "unavailable", Message: "the database cannot be reached, try again; appending the same events again is safe"}
	}
	return http.StatusInternalServerError, errorBody{Error: "internal_error", Message: "something went wrong here; the log has more under the request id"}
}

// upstreamCodes are the errors of finn's that callers can do something about.
var upstreamCodes = map[string]struct {
	status int
	body   errorBody
}{
	"BUDGET_EXCEEDED":          {http.StatusPaymentRequired, errorBody{Error: "usage_limit", Message: "the usage limit is reached"}},
	"RATE_LIMITED":             {http.StatusTooManyRequests, errorBody{Error: "rate_limited", Message: "finn has too many requests, try again later", RetryAfter: 60}},
	"ORACLE_MODEL_UNAVAILABLE": {http.StatusServiceUnavailable, errorBody{Error: "service_unavailable", Message: "the agent's model is not available at the moment"}},
	"PROVIDER_UNAVAILABLE":     {http.StatusBadGateway, errorBody{Error: "service_unavailable", Message: "the provider of the agent's model is not available at the moment"}},
}

// describe passes finn's status on, but none of its words. That finn does not
// accept this service, or sends it elsewhere, is not the caller's affair.
func (e *UpstreamError) describe() (status int, body errorBody) {
	if known, ok := upstreamCodes[e.Code]; ok {
		return known.status, known.body
	}
	status = e.Status
	if status < http.StatusBadRequest || status == http.StatusUnauthorized || status == http.StatusProxyAuthRequired {
		status = http.StatusBadGateway
	}
	message := "finn refuses this request"
	if status >= http.StatusInternalServerError {
		message = "finn failed to serve this request"
	}
	return status, errorBody{Error: "upstream_error", Message: message}
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
	body.RequestID = RequestID(r.Context())
	if status >= 500 {
		s.Logger.WarnContext(r.Context(), "request failed", "status", status, "error", err)
	}
	switch {
	case body.RetryAfter == never:
		body.RetryAfter = 0
	case (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) && body.RetryAfter == 0:
		body.RetryAfter = seconds(retryAfter)
	}
	if status == http.StatusUnprocessableEntity || status >= http.StatusInternalServerError {
		w.Header().Del(positionHeader) // nothing was answered that it could be the position of
	}
	setErrorHeaders(w.Header(), status, err, body)
	if status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusTooManyRequests {
		deny(r, err, body.Error)
	}
	writeJSON(w, status, extend(body))
}

// setErrorHeaders sets the headers that a status asks for.
func setErrorHeaders(header http.Header, status int, err error, body errorBody) {
	if body.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(body.RetryAfter))
	}
	var scope scopeError
	switch {
	case status == http.StatusUnauthorized:
		header.Set("WWW-Authenticate", challenge(err))
	case errors.As(err, &scope):
		header.Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="dixie", error="insufficient_scope", scope="%s"`, string(scope)))
	case status == http.StatusRequestEntityTooLarge, status == http.StatusRequestTimeout:
		header.Set("Connection", "close")
	}
}

// challenge is the WWW-Authenticate header of RFC 6750 §3.
func challenge(err error) string {
	if errors.Is(err, ErrUnauthenticated) {
		return `Bearer realm="dixie", error="invalid_token"`
	}
	return `Bearer realm="dixie"`
}
