// Package otlptest is a collector of traces for tests.
package otlptest

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const (
	maxRequest = 16 << 20
	patience   = 20 * time.Second
)

// Collector takes traces over OTLP/HTTP and keeps them. Use [Start].
type Collector struct {
	// URL is what OTEL_EXPORTER_OTLP_ENDPOINT is to be.
	URL string

	mu       sync.Mutex
	received []*collector.ExportTraceServiceRequest
}

// Start starts a collector that ends with the test.
func Start(t testing.TB) *Collector {
	c := &Collector{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// ServeHTTP implements [http.Handler].
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := read(r)
	if r.URL.Path != "/v1/traces" || err != nil {
		http.Error(w, fmt.Sprintf("%s: %v", r.URL.Path, err), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = append(c.received, request)
}

func read(r *http.Request) (*collector.ExportTraceServiceRequest, error) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		body = unzipped
	}
	text, err := io.ReadAll(io.LimitReader(body, maxRequest))
	if err != nil {
		return nil, err
	}
	request := &collector.ExportTraceServiceRequest{}
	return request, proto.Unmarshal(text, request)
}

// Span is a span that was received.
type Span struct {
	*trace.Span
	Scope string // of the library that made it
}

// Attribute is the value of an attribute, a text or a number, and empty when there
// is none.
func (s Span) Attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key != key {
			continue
		}
		if n, ok := a.Value.Value.(*common.AnyValue_IntValue); ok {
			return strconv.FormatInt(n.IntValue, 10)
		}
		return a.Value.GetStringValue()
	}
	return ""
}

// Spans are all spans that were received.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var spans []Span
	for _, request := range c.received {
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					spans = append(spans, Span{span, scope.Scope.GetName()})
				}
			}
		}
	}
	return spans
}

// Named are the spans of a name.
func (c *Collector) Named(name string) []Span {
	var found []Span
	for _, span := range c.Spans() {
		if span.Name == name {
			found = append(found, span)
		}
	}
	return found
}

// Await returns a span of a name when one was received.
func (c *Collector) Await(t testing.TB, name string) Span {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if found := c.Named(name); len(found) > 0 {
			return found[0]
		}
	}
	var names []string
	for _, span := range c.Spans() {
		names = append(names, span.Name)
	}
	t.Fatalf("no span %q after %s, only %q", name, patience, names)
	return Span{}
}

// Text is all that was received as JSON, to look for what must not be there.
func (c *Collector) Text(t testing.TB) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var text strings.Builder
	for _, request := range c.received {
		part, err := protojson.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(part)
	}
	return text.String()
}
