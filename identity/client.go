package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	defaultTimeout = 5 * time.Second
	// silence is how long a stream may say nothing.
	silence = 30 * time.Second
	// maxAnswer bounds an answer that is read as a whole.
	maxAnswer = 1 << 20
	// maxError bounds what is read of an error, for its code.
	maxError = 4 << 10

	maxConnections  = 256
	idleConnections = 32
)

// Config sets a [Client] up.
type Config struct {
	// BaseURL is where finn is: http or https, a host, and maybe a path that comes
	// before every other.
	BaseURL string
	// Token is sent as a bearer token. None is sent when it is empty.
	Token string
	// Timeout bounds a request with its answer, and for a stream the time until it
	// begins; 5 s when 0.
	Timeout time.Duration
	// Outgoing adds to a request what belongs to its context: the request id and
	// trace headers. It may be nil.
	Outgoing func(ctx context.Context, header http.Header)
	// Transport carries requests; [NewTransport] when nil.
	Transport http.RoundTripper
	Logger    *slog.Logger
}

// Client carries requests to finn. It never asks twice and follows no redirect.
// Five failures in a row within 30 s keep it from asking for 10 s; failures are
// errors of the network, timeouts and statuses of 500 and above. It is safe for
// concurrent use.
type Client struct {
	base     string
	token    string
	timeout  time.Duration
	outgoing func(context.Context, http.Header)
	http     *http.Client
	breaker  *breaker

	probing sync.Mutex
	probed  time.Time
	health  Health
}

// NewClient returns a client, or says what is wrong with its configuration.
func NewClient(c Config) (*Client, error) {
	base, err := parseBase(c.BaseURL)
	if err != nil {
		return nil, err
	}
	if !printable(c.Token) {
		return nil, errors.New("finn's token must have no line breaks and no other control characters")
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Outgoing == nil {
		c.Outgoing = func(context.Context, http.Header) {}
	}
	if c.Transport == nil {
		c.Transport = NewTransport()
	}
	return &Client{
		base: base, token: c.Token, timeout: c.Timeout, outgoing: c.Outgoing,
		http: &http.Client{
			Transport:     c.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		breaker: newBreaker(c.Logger),
	}, nil
}

// parseBase refuses what could not be asked. The message leaves the URL out,
// which may have a password in it.
func parseBase(text string) (string, error) {
	base, err := url.Parse(text)
	switch {
	case err != nil:
		return "", errors.New("finn's URL cannot be parsed")
	case base.Scheme != "http" && base.Scheme != "https" || base.Host == "":
		return "", errors.New("finn's URL must be http:// or https:// and a host")
	case base.User != nil:
		return "", errors.New("finn's URL must have no user or password; a token has a setting of its own")
	case base.RawQuery != "" || base.Fragment != "":
		return "", errors.New("finn's URL must have no query and no fragment")
	}
	return strings.TrimRight(base.String(), "/"), nil
}

// NewTransport returns a transport with limits on connections and headers.
func NewTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: defaultTimeout, KeepAlive: 30 * time.Second}).DialContext
	t.MaxConnsPerHost = maxConnections
	t.MaxIdleConnsPerHost = idleConnections
	t.MaxResponseHeaderBytes = 64 << 10
	return t
}

// Close gives up the connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Circuit is the state of the circuit breaker: closed, open or half_open.
func (c *Client) Circuit() string { return c.breaker.state() }

// Request is what finn is asked.
type Request struct {
	Method string
	// Path are the segments of the path, as they are meant: each is escaped. None
	// may be empty, "." or "..".
	Path   []string
	Query  url.Values
	Header http.Header // further headers; may be nil
	Body   []byte      // JSON; nil for a request without a body
	// Wallet is on whose behalf finn is asked, and empty when on nobody's. It goes
	// with the request and into the key of idempotency.
	Wallet string
	// Timeout is another limit than the client's, when it is not 0.
	Timeout time.Duration
}

// Response is an answer with a status from 200 to 299. Its body has to be
// closed. A body that does not come in time fails with [ErrUnavailable].
type Response struct {
	Status int
	Header http.Header
	Body   io.ReadCloser
}

// Send asks finn. Where finn answered, but with no success, the error is a
// [*StatusError]; where it did not answer, [ErrUnavailable] or [ErrCircuitOpen];
// and the context's own when that ended first.
func (c *Client) Send(ctx context.Context, r Request) (*Response, error) {
	done, err := c.breaker.Allow()
	if err != nil {
		return nil, ErrCircuitOpen
	}
	call := newCall(ctx, r.limit(c.timeout), done)
	request, err := c.request(call.ctx, r)
	if err != nil {
		call.end(errAbandoned)
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, call.fail(err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, call.refused(response)
	}
	call.answered(response)
	return &Response{Status: response.StatusCode, Header: response.Header, Body: call}, nil
}

func (r Request) limit(usual time.Duration) time.Duration {
	if r.Timeout > 0 {
		return r.Timeout
	}
	return usual
}

// JSON asks finn and decodes its answer, of at most 1 MiB, into v. An answer that
// cannot be decoded is [ErrAnswer].
func (c *Client) JSON(ctx context.Context, r Request, v any) error {
	response, err := c.Send(ctx, r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(text) > maxAnswer {
		return fmt.Errorf("%w: more than %d bytes", ErrAnswer, maxAnswer)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return nil
}

// request is r as HTTP.
func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	path, err := r.path()
	if err != nil {
		return nil, err
	}
	target := c.base + path
	if len(r.Query) > 0 {
		target += "?" + r.Query.Encode()
	}
	var body io.Reader
	if r.Body != nil {
		body = bytes.NewReader(r.Body)
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make a request to finn: %w", err)
	}
	header := request.Header
	header.Set("Accept", "application/json")
	header.Set("User-Agent", "dixie")
	c.outgoing(ctx, header)
	for name, values := range r.Header {
		header[http.CanonicalHeaderKey(name)] = values
	}
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
	if r.Wallet != "" {
		header.Set("X-Wallet-Address", r.Wallet)
	}
	if r.Body != nil {
		hash := requestHash(r.Body)
		header.Set("Content-Type", "application/json")
		header.Set("X-Req-Hash", hash)
		header.Set("X-Idempotency-Key", idempotencyKey(r.Wallet, hash, path))
	}
	return request, checkHeader(header)
}

// checkHeader refuses what the transport would refuse, which would count as a
// failure of finn's.
func checkHeader(header http.Header) error {
	for name, values := range header {
		for _, value := range values {
			if !printable(value) {
				return fmt.Errorf("%w: %s", ErrHeader, name)
			}
		}
	}
	return nil
}

// printable reports whether a header can have the value (RFC 9110 §5.5).
func printable(value string) bool {
	for i := range len(value) {
		if b := value[i]; b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}

// path is the escaped path. Dots are not escaped by anything, and mean another
// path to whoever cleans it.
func (r Request) path() (string, error) {
	var path strings.Builder
	for _, segment := range r.Path {
		if segment == "" || segment == "." || segment == ".." {
			return "", fmt.Errorf("%w: a segment is %q", ErrPath, segment)
		}
		path.WriteString("/" + url.PathEscape(segment))
	}
	return path.String(), nil
}

// requestHash is the hash of exactly the bytes that are sent.
func requestHash(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// idempotencyKey names a request by who asks for what. The wallet keeps two
// callers who say the same apart.
func idempotencyKey(wallet, hash, path string) string {
	tenant := wallet
	if tenant == "" {
		tenant = "anonymous"
	}
	text := []byte{'['}
	for i, member := range []string{tenant, hash, service, path} {
		if i > 0 {
			text = append(text, ',')
		}
		text, _ = jsontext.AppendQuote(text, member) // fails for invalid UTF-8 alone
	}
	sum := sha256.Sum256(append(text, ']'))
	return hex.EncodeToString(sum[:])
}
