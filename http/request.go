package http

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"dixie/reputation"
)

const positionHeader = "X-Reputation-Position"

// writeJSON answers with a value. What can fail is the connection, and then
// nobody is there to be told.
func writeJSON(w http.ResponseWriter, status int, v any) { writeText(w, status, marshal(v)) }

// jsonType is the Content-Type of answers and lineEnd how they end, which they share.
var (
	jsonType = []string{"application/json"}
	lineEnd  = []byte{'\n'}
)

// marshal encodes what handlers make.
func marshal(v any) []byte {
	text, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic(fmt.Errorf("encode %T: %w", v, err)) // only values that no handler makes: scores are never NaN
	}
	return text
}

// writeText answers with JSON, which may be in parts.
func writeText(w http.ResponseWriter, status int, parts ...[]byte) {
	length := len(lineEnd)
	for _, part := range parts {
		length += len(part)
	}
	w.Header()["Content-Type"] = jsonType
	w.Header().Set("Content-Length", strconv.Itoa(length)) // else a long answer comes in chunks
	w.WriteHeader(status)
	for _, part := range parts {
		_, _ = w.Write(part)
	}
	_, _ = w.Write(lineEnd)
}

func setPosition(w http.ResponseWriter, position int64) {
	w.Header().Set(positionHeader, strconv.FormatInt(position, 10))
}

const nftRule = "must match ^[A-Za-z0-9._:-]{1,255}$"

// pathNFT is the NFT that the path names.
func pathNFT(r *http.Request) (string, error) {
	id, err := url.PathUnescape(pathVariable(r, "nftId"))
	if err != nil || !reputation.ValidNFT(id) {
		return "", badRequest("nftId", nftRule)
	}
	return id, nil
}

// query reads the query string. Unknown parameters are refused: one that is
// misspelt would otherwise be ignored in silence.
type query struct {
	values url.Values
	err    error
}

func parseQuery(r *http.Request, known ...string) *query {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return &query{err: badRequest("query", "is not a well-formed query string")}
	}
	for name, given := range values {
		if !slices.Contains(known, name) {
			return &query{err: badRequest(clip(name), "unknown parameter; this route has "+list(known))}
		}
		if len(given) > 1 {
			return &query{err: badRequest(name, "is given more than once")}
		}
	}
	return &query{values: values}
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// fail keeps the first problem.
func (q *query) fail(name, detail string) {
	if q.err == nil {
		q.err = badRequest(name, detail)
	}
}

func (q *query) has(name string) bool { return q.values.Has(name) }

// integer is a whole number in [least, most] as JSON writes it, or fallback when
// absent.
func (q *query) integer(name string, least, most, fallback int64) int64 {
	if !q.has(name) {
		return fallback
	}
	n, err := strconv.ParseInt(q.values.Get(name), 10, 64)
	if err != nil || n < least || n > most || strconv.FormatInt(n, 10) != q.values.Get(name) {
		q.fail(name, fmt.Sprintf("must be a whole number between %d and %d, found %q", least, most, clip(q.values.Get(name))))
		return fallback
	}
	return n
}

// duration is a time such as 500ms in [0, most], or fallback when absent.
func (q *query) duration(name string, most, fallback time.Duration) time.Duration {
	if !q.has(name) {
		return fallback
	}
	d, err := time.ParseDuration(q.values.Get(name))
	if err != nil || d < 0 || d > most {
		q.fail(name, fmt.Sprintf("must be a duration between 0s and %s, such as 500ms, found %q", most, clip(q.values.Get(name))))
		return fallback
	}
	return d
}

// cursor is the id that a page ends with, or empty for the first page.
func (q *query) cursor(name string) string {
	text, err := base64.RawURLEncoding.Strict().DecodeString(q.values.Get(name))
	// No id has what PostgreSQL could not compare with. The decoder passes over line
	// breaks, which no cursor has.
	if err != nil || newCursor(string(text)) != q.values.Get(name) || len(text) > 4*255 || !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		q.fail(name, "must be the next_cursor of an earlier answer")
		return ""
	}
	return string(text)
}

func newCursor(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

// clip shortens what a message repeats, and makes it text that JSON can hold.
func clip(s string) string { return clipTo(s, 64) }

func clipTo(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

const (
	maxWait     = 30 * time.Second
	defaultWait = 2 * time.Second
)

// freshness are the parameters of every read of a projection.
var freshness = []string{"at_least", "wait"}

// waitFor serves at_least and wait: it returns when the projections have reached
// the position.
func (s *Server) waitFor(r *http.Request, q *query, projections ...string) error {
	position := q.integer("at_least", 0, reputation.MaxInteger, 0)
	if q.has("wait") && !q.has("at_least") {
		q.fail("wait", "needs at_least, the position to wait for")
	}
	return s.waitUntil(r, q, position, projections...)
}

// waitUntil is waitFor for a position that something else than at_least names.
func (s *Server) waitUntil(r *http.Request, q *query, position int64, projections ...string) error {
	wait := q.duration("wait", maxWait, defaultWait)
	if q.err != nil || position == 0 {
		return q.err
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	err := s.Reputations.WaitFor(ctx, position, projections...)
	if errors.Is(err, reputation.ErrBehind) && r.Context().Err() != nil {
		return r.Context().Err()
	}
	return err
}

// contains fails when an answer is made of less than what at_least asks for. That can
// be although the projections were there: when the log was restored to an earlier time,
// and they were rebuilt.
func (q *query) contains(position int64) error {
	if least := q.integer("at_least", 0, reputation.MaxInteger, 0); position < least {
		return fmt.Errorf("at position %d, and not at %d: %w", position, least, reputation.ErrBehind)
	}
	return nil
}

// contentType refuses a body of another media type.
func contentType(r *http.Request, allowed ...string) error {
	given := r.Header.Get("Content-Type")
	if slices.Contains(allowed, given) {
		return nil
	}
	media, _, err := mime.ParseMediaType(given)
	if err == nil && slices.Contains(allowed, media) {
		return nil
	}
	return &requestError{
		status: http.StatusUnsupportedMediaType, code: "unsupported_media_type",
		message: fmt.Sprintf("Content-Type must be %s, found %q", strings.Join(allowed, " or "), clip(given)),
	}
}

// accepts reports whether the Accept header names a media type.
func accepts(r *http.Request, media string) bool {
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			name, params, err := mime.ParseMediaType(part)
			if err != nil || name != media {
				continue
			}
			if q, err := strconv.ParseFloat(params["q"], 64); err != nil || q > 0 {
				return true
			}
		}
	}
	return false
}
