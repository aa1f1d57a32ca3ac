package telemetry

import (
	"context"
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/codes"
	nometrics "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Routes says how requests are to be traced.
type Routes struct {
	// Of is the template of a context's route, once it was found.
	Of func(context.Context) string
	// Skip are requests that are not traced: probes.
	Skip func(*http.Request) bool
	// Long are requests that last as long as there is data. They get one span, and
	// not one for each of their thousands of queries.
	Long func(*http.Request) bool
}

// The response headers that name the trace of a request.
const (
	traceIDHeader = "X-Trace-Id"
	spanIDHeader  = "X-Span-Id"
)

// Requests returns the middleware that traces requests. A trace that the caller
// has begun goes on (W3C Trace Context); a malformed one is passed over. The
// response says which trace it was. When nothing is exported, a trace of the
// caller's is still named in the log and passed on to finn.
func (t *Traces) Requests(routes Routes) func(http.Handler) http.Handler {
	if t.exported == nil {
		return t.carry
	}
	traced := otelhttp.NewMiddleware("", append(t.options(), otelhttp.WithFilter(func(r *http.Request) bool { return !routes.Skip(r) }))...)
	return func(next http.Handler) http.Handler { return traced(t.describe(routes, next)) }
}

func (t *Traces) options() []otelhttp.Option {
	return []otelhttp.Option{
		otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(t.propagator),
		otelhttp.WithMeterProvider(nometrics.NewMeterProvider()),
	}
}

// carry keeps the caller's trace in the context.
func (t *Traces) carry(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Traceparent") != "" {
			ctx := t.propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
			if span := trace.SpanContextFromContext(ctx); span.IsValid() {
				w.Header().Set(traceIDHeader, span.TraceID().String())
				r = r.WithContext(ctx)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// describe names the span by its route, and the trace in the response.
func (t *Traces) describe(routes Routes, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		span := trace.SpanFromContext(ctx)
		if !span.SpanContext().IsValid() {
			next.ServeHTTP(w, r) // it was skipped
			return
		}
		t.announce(w.Header(), span.SpanContext())
		answered := false
		defer func() {
			if route := routes.Of(ctx); route != "" {
				span.SetName(r.Method + " " + route)
				span.SetAttributes(semconv.HTTPRoute(route))
			}
			if !answered {
				span.SetStatus(codes.Error, "") // the connection was broken off
			}
		}()
		if routes.Long(r) {
			r = r.WithContext(trace.ContextWithSpanContext(ctx, span.SpanContext()))
		}
		next.ServeHTTP(w, r)
		answered = true
	})
}

func (t *Traces) announce(h http.Header, span trace.SpanContext) {
	h.Set(traceIDHeader, span.TraceID().String())
	h.Set(spanIDHeader, span.SpanID().String())
	// Without the caller's own state, of which an answer says nothing.
	ctx := trace.ContextWithSpanContext(context.Background(), span.WithTraceState(trace.TraceState{}))
	t.propagator.Inject(ctx, propagation.HeaderCarrier(h))
}

// Transport returns a transport to finn that passes the trace on, and makes each
// request a span.
func (t *Traces) Transport(next http.RoundTripper) http.RoundTripper {
	named := otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " finn" })
	return tracedTransport{otelhttp.NewTransport(next, append(t.options(), named)...), next}
}

type tracedTransport struct {
	http.RoundTripper
	base http.RoundTripper
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] looks for.
func (t tracedTransport) CloseIdleConnections() { closeIdle(t.base) }
