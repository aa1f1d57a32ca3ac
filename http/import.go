package http

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"dixie/reputation"
)

// importPatience is how long a bulk import may be silent in either direction.
const importPatience = time.Minute

type importAnswer struct {
	Lines         int64                     `json:"lines"` // read, without empty ones
	Appended      int64                     `json:"appended"`
	Duplicates    int64                     `json:"duplicates"`
	Rejected      int64                     `json:"rejected"`
	RejectedLines []reputation.RejectedLine `json:"rejected_lines"` // the first 100
	Position      int64                     `json:"position"`       // of the log after the last line
}

// importFailure is an import that stopped in the middle. What it counts is
// stored.
type importFailure struct {
	errorBody
	importAnswer
}

// importEvents serves POST /api/reputation/events: NDJSON of any length.
func (s *Server) importEvents(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).err; err != nil {
		return err
	}
	if err := contentType(r, "application/x-ndjson", "application/ndjson", "application/jsonl"); err != nil {
		return err
	}
	body, err := importBody(r)
	if err != nil {
		return err
	}
	caller := callerFrom(r.Context())
	check := func(e *reputation.Event) error { return mayAppend(caller, e) }
	// The server's own timeouts are for requests that end soon.
	control := http.NewResponseController(w)
	alive := func() {
		deadline := time.Now().Add(importPatience)
		_ = control.SetReadDeadline(deadline)
		_ = control.SetWriteDeadline(deadline)
	}
	report, err := s.Importer.Import(r.Context(), body, check, alive)
	head, headErr := s.Log.Head(r.Context())
	if err == nil {
		err = headErr
	}
	answer := importAnswer{
		Lines: report.Lines, Appended: report.Appended, Duplicates: report.Duplicates,
		Rejected: report.Rejected, RejectedLines: report.RejectedLines, Position: head,
	}
	setPosition(w, head)
	if err != nil {
		s.writeImportFailure(w, r, err, answer)
		return nil
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// writeImportFailure says how far an import came.
func (s *Server) writeImportFailure(w http.ResponseWriter, r *http.Request, err error, answer importAnswer) {
	if r.Context().Err() != nil {
		return // nobody listens any more
	}
	if failed := (*reputation.ReadError)(nil); errors.As(err, &failed) {
		err = &requestError{
			status: http.StatusBadRequest, code: "invalid_request",
			message: fmt.Sprintf("the body could not be read beyond line %d", failed.Line),
		}
	}
	w.Header().Set("Connection", "close") // the rest of the body is not read
	s.writeErrorWith(w, r, err, func(body errorBody) any {
		body.Message += "; what is counted here is stored, and sending the same file again is safe"
		return importFailure{body, answer}
	})
}

// importBody decompresses the body if it says that it is compressed.
func importBody(r *http.Request) (io.Reader, error) {
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return r.Body, nil
	case "gzip", "x-gzip":
		body, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, badRequest("body", "is not gzip, as Content-Encoding says")
		}
		return body, nil
	default:
		return nil, &requestError{
			status: http.StatusUnsupportedMediaType, code: "unsupported_media_type",
			message: fmt.Sprintf("Content-Encoding must be gzip or absent, found %q", clip(encoding)),
		}
	}
}
