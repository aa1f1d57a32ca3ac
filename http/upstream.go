package http

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Upstream is finn, which runs the agents' sessions. Its methods are safe for
// concurrent use.
type Upstream interface {
	// Send asks finn, within limits of time and, for what is no stream, within them
	// for the whole answer. It fails with an [*UpstreamError] when finn answered with
	// no success, with [ErrUpstreamAway] when it gave no answer, and with the
	// context's error when that ended first.
	Send(ctx context.Context, r UpstreamRequest) (*UpstreamResponse, error)
}

// UpstreamRequest is what finn is asked.
type UpstreamRequest struct {
	Method string
	Path   []string // segments as they are meant; whoever sends them escapes each
	Query  url.Values
	Header http.Header // further headers; may be nil
	Body   []byte      // JSON; nil for none
	Wallet string      // on whose behalf; empty for nobody's
	// Timeout is another limit than the usual, when it is not 0.
	Timeout time.Duration
}

// UpstreamResponse is an answer with a status from 200 to 299. Its body has to be
// closed.
type UpstreamResponse struct {
	Status int
	Header http.Header
	Body   io.ReadCloser
}

var (
	// ErrUpstreamAway says that finn gave no answer, or none that makes sense.
	ErrUpstreamAway = errors.New("finn is away")

	// ErrCircuitOpen says that finn was not asked, because it had failed too often
	// just before.
	ErrCircuitOpen = errors.New("finn's circuit is open")

	// ErrOwnershipUnknown says that it is not known what a wallet owns, which is not
	// the same as nothing.
	ErrOwnershipUnknown = errors.New("ownership is not known")

	// errNoUpstream is what routes that need finn answer when there is none.
	errNoUpstream = errors.New("finn is not configured")

	// errUpstreamAnswer is an answer of finn's that makes no sense.
	errUpstreamAnswer = errors.New("finn gave an answer that makes no sense")
)

// UpstreamError is an answer of finn's that is no success.
type UpstreamError struct {
	Status int    // 300 to 599
	Code   string // finn's own, such as RATE_LIMITED; empty when it gave none
}

func (e *UpstreamError) Error() string { return fmt.Sprintf("finn answered %d %s", e.Status, e.Code) }

// NFT is an NFT that a wallet owns.
type NFT struct {
	ID         string
	Collection string // empty when it is not known
}

// Access is what a wallet is to an NFT; each value includes those before it.
type Access int

// What a wallet can be to an NFT.
const (
	NoAccess  Access = iota
	Delegated        // the owner lets it take part
	Owner
)

// Freshness is how old an answer about ownership may be.
type Freshness int

const (
	// Stale is for reads: an old answer is better than none while finn is away.
	Stale Freshness = iota
	// Fresh is for judging: what finn said a few minutes ago still holds.
	Fresh
	// Current is for what cannot be undone: finn is asked.
	Current
)

// Ownership knows which wallet owns which NFT. Wallets are 0x and 40 hexadecimal
// digits. Its methods are safe for concurrent use; they fail with
// [ErrOwnershipUnknown], or with the context's error.
type Ownership interface {
	// Owned are the NFTs that a wallet owns, the one that it is known by first; none
	// when it owns nothing. The answer may be stale.
	Owned(ctx context.Context, wallet string) ([]NFT, error)
	// Access is what a wallet is to an NFT.
	Access(ctx context.Context, wallet, nft string, f Freshness) (Access, error)
}

// Outgoing adds to a request to another service what belongs to the request that
// is being served: its id.
func Outgoing(ctx context.Context, header http.Header) {
	if id := RequestID(ctx); id != "" {
		header.Set(requestIDHeader, id)
	}
}

// withFinn is for routes that cannot be served without finn.
func (s *Server) withFinn(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.Upstream == nil || s.Ownership == nil {
			return errNoUpstream
		}
		return h(w, r)
	}
}

// maxAnswer bounds an answer of finn's that is read as a whole.
const maxAnswer = 1 << 20

// media is the media type of an answer, without its parameters.
func media(header http.Header) string {
	name, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	return name
}

// readAnswer is the JSON of an answer of finn's.
func readAnswer(response *UpstreamResponse) (jsontext.Value, error) {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUpstreamAway, err)
	}
	value := jsontext.Value(bytes.TrimSpace(text))
	if len(text) > maxAnswer || media(response.Header) != "application/json" || !value.IsValid() {
		return nil, errUpstreamAnswer
	}
	return value, nil
}

// passedOn are the headers of an answer of finn's that callers get. All others
// are between finn and this service.
var passedOn = []string{"Etag", "Last-Modified", "Content-Language"}

// relay answers with what finn answered: JSON as a whole, a stream as it comes.
func (s *Server) relay(w http.ResponseWriter, r *http.Request, response *UpstreamResponse) error {
	if streams(response.Header) {
		_ = s.relayStream(w, r, response, io.Discard)
		return nil
	}
	var text jsontext.Value
	if response.Status != http.StatusNoContent {
		var err error
		if text, err = readAnswer(response); err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
	}
	for _, name := range passedOn {
		if value := response.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(response.Status)
	_, _ = w.Write(text)
	return nil
}

// streams reports whether an answer comes piece by piece.
func streams(header http.Header) bool {
	name := media(header)
	return name == eventStream || name == ndjson
}

// relayStream passes a stream on as it comes, also to copy. It reports whether
// the stream came to its end and the client has all of it. When finn breaks off,
// so does the answer.
func (s *Server) relayStream(w http.ResponseWriter, r *http.Request, response *UpstreamResponse, copy io.Writer) bool {
	w.Header().Set("Content-Type", media(response.Header))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // for proxies that collect answers
	w.WriteHeader(response.Status)
	stream := newStream(w)
	piece := make([]byte, 16<<10)
	for {
		n, err := response.Body.Read(piece)
		_, _ = copy.Write(piece[:n])
		stream.buf = append(stream.buf, piece[:n]...)
		if stream.flush() != nil {
			return false
		}
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			s.abort(r, err)
		}
	}
}
