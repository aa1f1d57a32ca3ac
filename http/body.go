package http

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxBody is how many bytes a body may have when its route says nothing else.
	maxBody = 100 << 10
	// unlimited is for routes that limit what they read themselves.
	unlimited = -1
)

// limitedBody is a body of which only so much can be read, also when it does not
// say how long it is.
type limitedBody struct {
	io.ReadCloser
	whole io.ReadCloser
}

// limitBody limits what can be read of a body. A route that takes longer ones is
// declared [withBody].
func limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = limitedBody{http.MaxBytesReader(w, r.Body, maxBody), r.Body}
		}
		next.ServeHTTP(w, r)
	})
}

// withBody is a handler for bodies of at most so many bytes.
func withBody(most int64, h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if body, ok := r.Body.(limitedBody); ok {
			r.Body = body.whole
			if most != unlimited {
				r.Body = http.MaxBytesReader(w, body.whole, most)
			}
		}
		return h(w, r)
	}
}

// bodyError explains why a body could not be read.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &requestError{status: http.StatusRequestTimeout, code: "request_timeout", message: "the body did not come in time"}
	}
	return &requestError{status: http.StatusBadRequest, code: "invalid_request", message: "the body could not be read to its end"}
}

// jsonBody is the body of a request, which has to be a JSON object.
func jsonBody(r *http.Request) (jsontext.Value, error) {
	if err := contentType(r, "application/json"); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, bodyError(err)
	}
	value := jsontext.Value(bytes.TrimSpace(text))
	if value.Kind() != '{' || !value.IsValid() {
		return nil, badRequest("body", "must be a JSON object")
	}
	return value, nil
}

// readJSON decodes a body of one JSON object. The object may have other members
// than v unless options say otherwise.
func readJSON(r *http.Request, v any, options ...json.Options) error {
	body, err := jsonBody(r)
	if err != nil {
		return err
	}
	err = json.Unmarshal(body, v, options...)
	semantic := (*json.SemanticError)(nil)
	switch {
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &semantic):
		return badRequest(field(semantic), "unknown field")
	case errors.As(err, &semantic):
		return badRequest(field(semantic), "is of another type than it should be")
	case err != nil:
		return badRequest("body", "is not well-formed JSON") // a member that is there twice
	}
	return nil
}

// field is where in a body something is wrong.
func field(err *json.SemanticError) string {
	return clip(strings.TrimPrefix(string(err.JSONPointer), "/"))
}
