package http

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"dixie/reputation"
)

// importPatience is how long a bulk import may be silent in either direction.
const importPatience = time.Minute

// importFarewell is how much longer it takes an answer than a request.
const importFarewell = 10 * time.Second

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
	select { // each has some megabytes of lines in memory, and all wait for the same log
	case s.imports <- struct{}{}:
		defer func() { <-s.imports }()
	default:
		w.Header().Set("Connection", "close") // the body is not read
		return errImports
	}
	// The server's own timeouts are for requests that end soon.
	control := http.NewResponseController(w)
	alive := func() {
		now := time.Now()
		_ = control.SetReadDeadline(now.Add(importPatience))
		_ = control.SetWriteDeadline(now.Add(importPatience + importFarewell)) // to be told that it was too slow
	}
	body, err := importBody(r, alive)
	if err != nil {
		return err
	}
	check := s.lineRules(r)
	ctx, cancel := outliving(r.Context(), importFarewell)
	defer cancel()
	report, err := s.Importer.Import(ctx, body, check, alive)
	head, headErr := s.Log.Head(ctx)
	if err == nil {
		err = headErr
	}
	answer := importAnswer{
		Lines: report.Lines, Appended: report.Appended, Duplicates: report.Duplicates,
		Rejected: report.Rejected, RejectedLines: report.RejectedLines, Position: head,
	}
	if err != nil {
		s.writeImportFailure(w, r, err, answer)
		return nil
	}
	setPosition(w, head)
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// outliving is a context that ends some time after another. That of a request ends
// when its body cannot be read, as with a client that has fallen silent, who is to be
// told what was stored.
func outliving(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, cancel)
		context.AfterFunc(longer, func() { timer.Stop() })
	})
	return longer, func() {
		stop()
		cancel()
	}
}

// lineRules are those of appending, by the line: a line that may not be appended
// is rejected for a reason that the caller can read.
func (s *Server) lineRules(r *http.Request) func(nft string, e *reputation.Event) error {
	rules := s.appendRules(r.Context())
	return func(nft string, e *reputation.Event) error {
		known := rules.unknown == nil
		err := rules.check(r.Context(), nft, e)
		if err == nil {
			return nil
		}
		if known && rules.unknown != nil {
			s.Logger.WarnContext(r.Context(), "lines of an import are rejected", "request_id", RequestID(r.Context()), "error", err)
		}
		_, body := describe(err)
		return errors.New(body.Message)
	}
}

// writeImportFailure says how far an import came.
func (s *Server) writeImportFailure(w http.ResponseWriter, r *http.Request, err error, answer importAnswer) {
	if failed := (*reputation.ReadError)(nil); errors.As(err, &failed) {
		err = &requestError{
			status: http.StatusBadRequest, code: "invalid_request",
			message: fmt.Sprintf("the body could not be read beyond line %d", failed.Line),
		}
		if errors.Is(failed, errExpansion) {
			err = &requestError{
				status: http.StatusRequestEntityTooLarge, code: "body_too_large",
				message: fmt.Sprintf("%s: too much came after line %d", errExpansion, failed.Line),
			}
		}
		if errors.Is(failed, os.ErrDeadlineExceeded) {
			err = &requestError{
				status: http.StatusRequestTimeout, code: "request_timeout",
				message: fmt.Sprintf("nothing came for %s after line %d", importPatience, failed.Line),
			}
		}
	}
	w.Header().Set("Connection", "close") // the rest of the body is not read
	s.writeErrorWith(w, r, err, func(body errorBody) any {
		body.Message += "; what is counted here is stored, and sending the same file again is safe"
		setPosition(w, answer.Position)
		return importFailure{body, answer}
	})
}

// patient calls alive before each read: a client that fills a batch slowly is not
// silent.
type patient struct {
	in    io.Reader
	alive func()
	bytes int64 // that were read
}

func (p *patient) Read(b []byte) (int, error) {
	p.alive()
	n, err := p.in.Read(b)
	p.bytes += int64(n)
	return n, err
}

const (
	// maxExpansion is how many times its own size a compressed body may have. Logs have
	// 10 to 30 times; gzip could have 1,000 times, which would let a caller who sends
	// little keep the service busy for long.
	maxExpansion = 100
	// freeExpansion is what any body may expand to, however small it is.
	freeExpansion = 1 << 20
)

var errExpansion = fmt.Errorf("a compressed body may expand to at most %d times its size and 1 MiB, send it uncompressed", maxExpansion)

// expanded is a decompressed body. Reading fails with errExpansion as soon as it is too
// much for what was sent.
type expanded struct {
	io.Reader
	from  *patient
	bytes int64
}

func (e *expanded) Read(b []byte) (int, error) {
	n, err := e.Reader.Read(b)
	e.bytes += int64(n)
	if e.bytes > freeExpansion+maxExpansion*e.from.bytes {
		return 0, errExpansion
	}
	return n, err
}

// importBody decompresses the body if it says that it is compressed.
func importBody(r *http.Request, alive func()) (io.Reader, error) {
	in := &patient{in: r.Body, alive: alive}
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		return in, nil
	case "gzip", "x-gzip":
		body, err := gzip.NewReader(in)
		if err != nil {
			return nil, badRequest("body", "is not gzip, as Content-Encoding says")
		}
		return &expanded{Reader: body, from: in}, nil
	default:
		return nil, &requestError{
			status: http.StatusUnsupportedMediaType, code: "unsupported_media_type",
			message: fmt.Sprintf("Content-Encoding must be gzip or absent, found %q", clip(encoding)),
		}
	}
}
