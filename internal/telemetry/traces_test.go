package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"dixie/eventstore"
	"dixie/internal/logtext"
	"dixie/internal/otlptest"
	"dixie/internal/pgtest"
	"dixie/internal/telemetry"
)

func start(t *testing.T, config telemetry.TraceConfig) *telemetry.Traces {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	traces, err := telemetry.StartTraces(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { flush(t, traces) })
	return traces
}

// off are traces without an endpoint.
func off(t *testing.T) *telemetry.Traces { return start(t, telemetry.TraceConfig{}) }

// on are traces to a collector.
func on(t *testing.T) (*telemetry.Traces, *otlptest.Collector) {
	collector := otlptest.Start(t)
	return start(t, telemetry.TraceConfig{Endpoint: collector.URL, Version: "v1"}), collector
}

// flush ends the traces, so that the collector has them all.
func flush(t *testing.T, traces *telemetry.Traces) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	if err := traces.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// routes are those of a server whose paths are their own templates.
var routes = telemetry.Routes{
	Of:   func(context.Context) string { return "/things/{id}" },
	Skip: func(r *http.Request) bool { return r.URL.Path == "/probe" },
	Long: func(r *http.Request) bool { return r.URL.Path == "/long" },
}

const (
	theirTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + theirTrace + "-00f067aa0ba902b7-01"
)

// ask answers a request through the middleware of requests.
func ask(traces *telemetry.Traces, path, traceparent string, h http.HandlerFunc) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil)
	if traceparent != "" {
		r.Header.Set("Traceparent", traceparent)
	}
	traces.Requests(routes)(h).ServeHTTP(w, r)
	return w
}

func TestRequestsAreTraced(t *testing.T) {
	t.Parallel()
	traces, collector := on(t)
	var inside trace.SpanContext
	w := ask(traces, "/things/7?token=secret", traceparent, func(w http.ResponseWriter, r *http.Request) {
		inside = trace.SpanContextFromContext(r.Context())
		w.WriteHeader(http.StatusTeapot)
	})
	flush(t, traces)
	spans := collector.Spans()
	if len(spans) != 1 {
		t.Fatalf("%d spans", len(spans))
	}
	span := spans[0]
	if span.Name != "GET /things/{id}" || span.Kind != otlp.Span_SPAN_KIND_SERVER || fmt.Sprintf("%x", span.TraceId) != theirTrace ||
		fmt.Sprintf("%x", span.ParentSpanId) != "00f067aa0ba902b7" {
		t.Errorf("span %v", span)
	}
	for key, want := range map[string]string{
		"http.route": "/things/{id}", "http.response.status_code": "418", "url.path": "/things/7", "http.request.method": "GET",
	} {
		if got := span.Attribute(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	id := fmt.Sprintf("%x", span.SpanId)
	for header, want := range map[string]string{
		"X-Trace-Id": theirTrace, "X-Span-Id": id, "Traceparent": "00-" + theirTrace + "-" + id + "-01", "Tracestate": "",
	} {
		if got := w.Header().Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	if inside.SpanID().String() != id {
		t.Errorf("the handler has span %s, want %s", inside.SpanID(), id)
	}
	text := collector.Text(t)
	if strings.Contains(text, "secret") || !strings.Contains(text, `"service.name"`) || !strings.Contains(text, `"dixie"`) {
		t.Error(text)
	}
}

// TestMalformedTracesArePassedOver: what is no trace context (W3C Trace Context
// §3.2) begins a new trace, and is not repeated to the caller.
func TestMalformedTracesArePassedOver(t *testing.T) {
	t.Parallel()
	traces, _ := on(t)
	for _, bad := range []string{
		"", "00", "garbage", "00-" + theirTrace + "-00f067aa0ba902b7", "ff-" + theirTrace + "-00f067aa0ba902b7-01",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-" + theirTrace + "-0000000000000000-01",
		"00-" + strings.ToUpper(theirTrace) + "-00f067aa0ba902b7-01", traceparent + "-more", "00-" + theirTrace + "\"><script>-00f067aa0ba902b7-01",
	} {
		for name, traces := range map[string]*telemetry.Traces{"on": traces, "off": off(t)} {
			w := ask(traces, "/things/7", bad, func(http.ResponseWriter, *http.Request) {})
			got := w.Header().Get("X-Trace-Id")
			if got == theirTrace || (got == "") != (name == "off") {
				t.Errorf("%s: %q becomes trace %q", name, bad, got)
			}
		}
	}
}

// TestOffCarriesTheCallersTrace: without a collector the log and finn still learn
// of it.
func TestOffCarriesTheCallersTrace(t *testing.T) {
	t.Parallel()
	traces := off(t)
	var sent string
	w := ask(traces, "/things/7", traceparent, func(_ http.ResponseWriter, r *http.Request) {
		if got := trace.SpanContextFromContext(r.Context()).TraceID().String(); got != theirTrace {
			t.Errorf("trace %s", got)
		}
		sent = sendToFinn(t, traces, r.Context())
	})
	if got := w.Header().Get("X-Trace-Id"); got != theirTrace {
		t.Errorf("X-Trace-Id: %q", got)
	}
	if sent != traceparent {
		t.Errorf("finn was sent %q", sent)
	}
	if w := ask(traces, "/things/7", "", func(http.ResponseWriter, *http.Request) {}); len(w.Header()) != 0 {
		t.Errorf("headers %v", w.Header())
	}
}

// sendToFinn asks finn, and returns the traceparent that it was sent.
func sendToFinn(t *testing.T, traces *telemetry.Traces, ctx context.Context) (sent string) {
	t.Helper()
	transport := traces.Transport(roundTrip(func(r *http.Request) (*http.Response, error) {
		sent = r.Header.Get("Traceparent")
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(""))}, nil
	}))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://user:password@finn/api/identity/wallet/0x1/nft?secret=1#part", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer finn-token")
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return sent
}

func TestFinnIsTraced(t *testing.T) {
	t.Parallel()
	traces, collector := on(t)
	ask(traces, "/things/7", traceparent, func(_ http.ResponseWriter, r *http.Request) {
		if sent := sendToFinn(t, traces, r.Context()); !strings.HasPrefix(sent, "00-"+theirTrace+"-") || sent == traceparent {
			t.Errorf("finn was sent %q", sent)
		}
	})
	flush(t, traces)
	span := collector.Await(t, "GET finn")
	if span.Kind != otlp.Span_SPAN_KIND_CLIENT || fmt.Sprintf("%x", span.TraceId) != theirTrace {
		t.Errorf("span %v", span)
	}
	if got := span.Attribute("url.full"); got != "http://finn/api/identity/wallet/0x1/nft" {
		t.Errorf("url.full %q", got)
	}
	for _, secret := range []string{"secret", "finn-token", "password", "part"} {
		if strings.Contains(collector.Text(t), secret) {
			t.Errorf("%q is in the traces", secret)
		}
	}
}

func TestProbesAreNotTraced(t *testing.T) {
	t.Parallel()
	traces, collector := on(t)
	w := ask(traces, "/probe", "", func(_ http.ResponseWriter, r *http.Request) {
		if trace.SpanContextFromContext(r.Context()).IsValid() {
			t.Error("the probe has a span")
		}
	})
	flush(t, traces)
	if len(w.Header()) != 0 || len(collector.Spans()) != 0 {
		t.Errorf("headers %v, spans %v", w.Header(), collector.Spans())
	}
}

// TestBrokenOffRequests: a request that was broken off is an error.
func TestBrokenOffRequests(t *testing.T) {
	t.Parallel()
	traces, collector := on(t)
	func() {
		defer func() { _ = recover() }()
		ask(traces, "/things/7", "", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	}()
	flush(t, traces)
	if span := collector.Await(t, "GET /things/{id}"); span.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("status %v", span.Status)
	}
}

// TestQueriesAreTraced: with their text, below a span only, and without arguments
// or the texts of errors; and a request that moves the whole log has none.
func TestQueriesAreTraced(t *testing.T) {
	t.Parallel()
	traces, collector := on(t)
	other := &countingTracer{}
	config := pgtest.Pool(t).Config().Copy()
	config.ConnConfig.Tracer = traces.Database(other)
	pool := connect(t, config)
	query := func(ctx context.Context) {
		var n int
		_ = pool.QueryRow(ctx, `SELECT length($1::text)`, "secret-argument").Scan(&n)
		_ = pool.QueryRow(ctx, `SELECT $1::text::int`, "secret-value").Scan(&n)
	}
	query(t.Context())
	ask(traces, "/long", "", func(_ http.ResponseWriter, r *http.Request) { query(r.Context()) })
	ask(traces, "/things/7", traceparent, func(_ http.ResponseWriter, r *http.Request) { query(r.Context()) })
	flush(t, traces)
	if other.queries.Load() != 6 {
		t.Errorf("the other tracer saw %d queries", other.queries.Load())
	}
	texts := map[string]int{}
	for _, span := range collector.Named("SELECT") {
		if fmt.Sprintf("%x", span.TraceId) != theirTrace {
			t.Errorf("a query of another trace: %v", span)
		}
		if span.Attribute("pgx.sql_state") == "22P02" && span.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR {
			texts["failed"]++
		}
		texts[span.Attribute("db.query.text")]++
	}
	if texts[`SELECT length($1::text)`] == 0 || texts["failed"] == 0 {
		t.Errorf("queries %v", texts)
	}
	if text := collector.Text(t); strings.Contains(text, "secret") {
		t.Error(text)
	}
}

func TestPagesAreTraced(t *testing.T) {
	t.Parallel()
	traces, collector := on(t)
	project(t, traces.Pages, 1)
	project(t, off(t).Pages, 1)
	flush(t, traces)
	spans := collector.Named("project aggregates")
	if len(spans) != 2 || len(collector.Spans()) != 2 {
		t.Fatalf("%d spans, want a failed one and a good one", len(spans))
	}
	if spans[0].Status.GetCode() != otlp.Status_STATUS_CODE_ERROR || spans[1].Status.GetCode() == otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("statuses %v, %v", spans[0].Status, spans[1].Status)
	}
	for key, want := range map[string]string{"dixie.page.from": "0", "dixie.page.to": "3", "dixie.page.events": "3"} {
		if got := spans[1].Attribute(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if strings.Contains(collector.Text(t), "secret text") {
		t.Error("the text of an error is in the traces")
	}
}

// TestBatchesAreTraced: a batch belongs to its only caller, or has links to its
// callers; nobody sees those who are not traced.
func TestBatchesAreTraced(t *testing.T) {
	t.Parallel()
	traces, collector := on(t)
	write := func(err error, callers ...context.Context) {
		for i := range callers {
			if callers[i] == nil {
				callers[i] = t.Context()
			}
		}
		_, done := traces.BatchStarted(t.Context(), eventstore.Batch{Callers: callers, Events: 5})
		done(err)
	}
	var one, two trace.SpanContext
	ask(traces, "/things/1", "", func(_ http.ResponseWriter, r1 *http.Request) {
		one = trace.SpanContextFromContext(r1.Context())
		write(nil, r1.Context())
		ask(traces, "/things/2", "", func(_ http.ResponseWriter, r2 *http.Request) {
			two = trace.SpanContextFromContext(r2.Context())
			write(errors.New("no"), r1.Context(), nil, r2.Context())
		})
	})
	write(nil, nil, nil)
	ask(traces, "/long", "", func(_ http.ResponseWriter, r *http.Request) { write(nil, r.Context()) })
	flush(t, traces)
	spans := collector.Named("append")
	if len(spans) != 2 {
		t.Fatalf("%d batches", len(spans))
	}
	lone, shared := spans[0], spans[1]
	if fmt.Sprintf("%x", lone.ParentSpanId) != one.SpanID().String() || len(lone.Links) != 0 {
		t.Errorf("the lone batch: %v", lone)
	}
	if len(shared.ParentSpanId) != 0 || len(shared.Links) != 2 || shared.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR ||
		fmt.Sprintf("%x", shared.Links[0].SpanId) != one.SpanID().String() || fmt.Sprintf("%x", shared.Links[1].SpanId) != two.SpanID().String() {
		t.Errorf("the shared batch: %v", shared)
	}
	if shared.Attribute("dixie.batch.appends") != "3" || shared.Attribute("dixie.batch.events") != "5" {
		t.Errorf("the shared batch: %v", shared)
	}
}

// dialled counts connections that are tried, none of which comes about.
func dialled(count *atomic.Int64) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		count.Add(1)
		return nil, errors.New("no network")
	}}}
}

// TestNothingConnectsWithoutAnEndpoint: whatever else is set. Where one is given
// the same client does connect, so the test would notice.
func TestNothingConnectsWithoutAnEndpoint(t *testing.T) {
	for _, variable := range []string{
		"OTEL_EXPORTER_OTLP_HEADERS=a=b", "OTEL_TRACES_SAMPLER=always_on", "OTEL_SERVICE_NAME=x", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_TRACES_EXPORTER=otlp",
	} {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	tests := []struct {
		endpoint string
		env      string
		connects bool
	}{
		{endpoint: ""},
		{endpoint: "http://collector:4318", connects: true},
		{endpoint: "", env: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://collector:4318", connects: true},
		{endpoint: "http://collector:4318", env: "OTEL_SDK_DISABLED=true"},
		{endpoint: "http://collector:4318", env: "OTEL_TRACES_EXPORTER=none"},
	}
	for _, tt := range tests {
		t.Run(tt.endpoint+" "+tt.env, func(t *testing.T) {
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			var dials atomic.Int64
			traces := start(t, telemetry.WithClient(telemetry.TraceConfig{Endpoint: tt.endpoint}, dialled(&dials)))
			ask(traces, "/things/7", traceparent, func(http.ResponseWriter, *http.Request) {})
			project(t, traces.Pages, 0)
			flush(t, traces)
			if got := dials.Load() > 0; got != tt.connects {
				t.Errorf("%d connections were tried", dials.Load())
			}
		})
	}
}

// TestVariablesAreRespected: those of the standard that are no fields of ours.
func TestVariablesAreRespected(t *testing.T) {
	collector := otlptest.Start(t)
	t.Setenv("OTEL_SERVICE_NAME", "dixie-staging")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=staging")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1") // the field comes first
	traces := start(t, telemetry.TraceConfig{Endpoint: collector.URL + "/"})
	ask(traces, "/things/7", "", func(http.ResponseWriter, *http.Request) {})
	flush(t, traces)
	collector.Await(t, "GET /things/{id}")
	for _, part := range []string{"dixie-staging", "deployment.environment", "staging"} {
		if !strings.Contains(collector.Text(t), part) {
			t.Errorf("no %q in %s", part, collector.Text(t))
		}
	}

	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	silent := otlptest.Start(t)
	traces = start(t, telemetry.TraceConfig{Endpoint: silent.URL})
	w := ask(traces, "/things/7", "", func(http.ResponseWriter, *http.Request) {})
	flush(t, traces)
	if len(silent.Spans()) != 0 || !strings.HasSuffix(w.Header().Get("Traceparent"), "-00") {
		t.Errorf("%d spans, traceparent %q", len(silent.Spans()), w.Header().Get("Traceparent"))
	}
}

// TestVariablesThatCannotBeRespected are refused, all at once.
func TestVariablesThatCannotBeRespected(t *testing.T) {
	for variable, part := range map[string]string{
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc": "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc": "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
		"OTEL_TRACES_EXPORTER=zipkin": "zipkin", "OTEL_PROPAGATORS=b3": "b3", "OTEL_TRACES_SAMPLER=jaeger_remote": "jaeger_remote",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=localhost:4318": "URL",
	} {
		t.Run(variable, func(t *testing.T) {
			name, value, _ := strings.Cut(variable, "=")
			t.Setenv(name, value)
			refuse(t, "http://localhost:4318", part)
		})
	}
	t.Run("ratio", func(t *testing.T) {
		t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
		for _, bad := range []string{"2", "-1", "NaN", "half"} {
			t.Setenv("OTEL_TRACES_SAMPLER_ARG", bad)
			refuse(t, "http://localhost:4318", bad)
		}
	})
	t.Run("endpoint", func(t *testing.T) {
		refuse(t, "localhost:4318", "URL")
		refuse(t, "http://", "URL")
		refuse(t, "http://user:secret@", "URL")
	})
}

func refuse(t *testing.T, endpoint, part string) {
	t.Helper()
	_, err := telemetry.StartTraces(t.Context(), telemetry.TraceConfig{Endpoint: endpoint, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v, want one that names %q", err, part)
	}
}

// TestCollectorAway: spans are lost, which is logged once, the service goes on,
// and its stop does not wait longer than it was told to.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	var log logtext.Log
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that the client has left
		<-r.Context().Done()
	}))
	t.Cleanup(hanging.Close)
	traces := start(t, telemetry.TraceConfig{Endpoint: hanging.URL, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ask(traces, "/things/7", "", func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_ = traces.Shutdown(ctx)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if n := strings.Count(log.String(), "traces cannot be exported"); n != 1 {
		t.Errorf("%d lines: %s", n, log.String())
	}
}

// TestCollectorRefuses: that spans are lost is logged when it begins and when it
// ends, with what the collector said.
func TestCollectorRefuses(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
	var log logtext.Log
	refused, taken := make(chan struct{}, 10), make(chan struct{}, 10)
	var well atomic.Bool
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if well.Load() {
			taken <- struct{}{}
			return
		}
		http.Error(w, strings.Repeat("go away ", 1000), http.StatusForbidden)
		refused <- struct{}{}
	}))
	t.Cleanup(refusing.Close)
	traces := start(t, telemetry.TraceConfig{Endpoint: refusing.URL, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 3 {
		ask(traces, "/things/7", "", func(http.ResponseWriter, *http.Request) {})
		<-refused
	}
	well.Store(true)
	for range 2 {
		ask(traces, "/things/7", "", func(http.ResponseWriter, *http.Request) {})
		<-taken
	}
	flush(t, traces)
	text := log.String()
	if strings.Count(text, "cannot be exported") != 1 || strings.Count(text, "exported again") != 1 || !strings.Contains(text, "go away") || len(text) > 1000 {
		t.Errorf("the log: %s", text)
	}
}

// TestDiscretion: whatever a library puts into a span, only what is known to be
// harmless is exported.
func TestDiscretion(t *testing.T) {
	t.Parallel()
	traces, collector := on(t)
	ask(traces, "/things/dxk_secret-0/eyJhbGciOiJFUzI1NiJ9.secret.secret_x/7", "", func(_ http.ResponseWriter, r *http.Request) {
		span := trace.SpanFromContext(r.Context())
		span.SetAttributes(
			attribute.String("url.query", "secret-1"), attribute.StringSlice("pgx.query.parameters", []string{"secret-2"}),
			attribute.String("http.request.header.authorization", "secret-3"), attribute.String("url.full", "http://u:secret-4@h/p%2Fq?secret-5#secret-6"),
			attribute.String("dixie.mine", "kept"))
		span.RecordError(errors.New("secret-7"))
		span.SetStatus(codes.Error, "secret-8")
		span.AddEvent("secret-9")
	})
	flush(t, traces)
	span := collector.Await(t, "GET /things/{id}")
	if strings.Contains(collector.Text(t), "secret") {
		t.Error(collector.Text(t))
	}
	if span.Attribute("dixie.mine") != "kept" || span.Attribute("url.path") != "/things/…/…/7" || span.Attribute("url.full") != "http://h/p%2Fq" || span.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("span %v", span)
	}
}
