package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	nometrics "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"dixie/eventstore"
)

const scope = "dixie"

// Traces are the traces of one process. They are exported over OTLP when a
// standard variable names an endpoint, and else do nothing. Methods are safe for
// concurrent use. Use [StartTraces].
type Traces struct {
	provider   trace.TracerProvider
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator

	exported *sdktrace.TracerProvider // nil when nothing is exported
	exporter *discreet
}

// TraceConfig sets [Traces] up. Everything else is read from the variables of
// OpenTelemetry (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_…).
type TraceConfig struct {
	// Endpoint is the URL of a collector that takes OTLP over HTTP, below which spans
	// go to /v1/traces. Nothing is exported, and no connection made, when it is
	// empty.
	Endpoint string
	Version  string
	Logger   *slog.Logger // of what cannot be exported

	client *http.Client // of tests
}

// StartTraces returns traces that [Traces.Shutdown] ends. The error says which
// variable has a value that cannot be respected.
func StartTraces(ctx context.Context, config TraceConfig) (*Traces, error) {
	t := &Traces{provider: noop.NewTracerProvider(), propagator: propagation.TraceContext{}}
	if config.wanted() {
		if err := t.export(ctx, config); err != nil {
			return nil, fmt.Errorf("traces: %w", err)
		}
	}
	t.tracer = t.provider.Tracer(scope)
	return t, nil
}

// tracesEndpoint names a collector for traces alone, and comes before the one for
// everything.
const tracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"

// wanted reports whether traces are to be exported.
func (c TraceConfig) wanted() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return c.Endpoint != "" || os.Getenv(tracesEndpoint) != ""
}

func (t *Traces) export(ctx context.Context, config TraceConfig) error {
	if err := errors.Join(checkEndpoint(cmp.Or(os.Getenv(tracesEndpoint), config.Endpoint)), checkVariables()); err != nil {
		return err
	}
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("dixie"), semconv.ServiceVersion(config.Version)),
		resource.WithFromEnv(), // last, so that it wins
	)
	if err != nil {
		return fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx, config.options()...)
	if err != nil {
		return err
	}
	t.exporter = &discreet{SpanExporter: exporter, logger: config.Logger}
	t.exported = sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(t.exporter))
	t.provider = t.exported
	return nil
}

func (c TraceConfig) options() []otlptracehttp.Option {
	var options []otlptracehttp.Option
	if os.Getenv(tracesEndpoint) == "" {
		options = append(options, otlptracehttp.WithEndpointURL(strings.TrimRight(c.Endpoint, "/")+"/v1/traces"))
	}
	if c.client != nil {
		options = append(options, otlptracehttp.WithHTTPClient(c.client))
	}
	return options
}

// checkEndpoint leaves the URL out of its message, which may have a password.
func checkEndpoint(text string) error {
	endpoint, err := url.Parse(text)
	if err != nil || endpoint.Scheme != "http" && endpoint.Scheme != "https" || endpoint.Host == "" {
		return errors.New("the endpoint must be a URL such as http://collector:4318")
	}
	return nil
}

// checkVariables refuses what the libraries would pass over in silence. Baggage is
// in the default of the propagators; it is not passed on.
func checkVariables() error {
	samplers := []string{
		"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio",
	}
	var errs []error
	for _, variable := range []struct {
		name    string
		allowed []string
	}{
		{"OTEL_TRACES_EXPORTER", []string{"otlp"}},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", []string{"http/protobuf", "http/json"}},
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", []string{"http/protobuf", "http/json"}},
		{"OTEL_PROPAGATORS", []string{"tracecontext", "tracecontext,baggage"}},
		{"OTEL_TRACES_SAMPLER", samplers},
	} {
		if value := os.Getenv(variable.name); value != "" && !slices.Contains(variable.allowed, value) {
			errs = append(errs, fmt.Errorf("%s must be %s, found %q", variable.name, strings.Join(variable.allowed, " or "), value))
		}
	}
	if text := os.Getenv("OTEL_TRACES_SAMPLER_ARG"); text != "" && strings.Contains(os.Getenv("OTEL_TRACES_SAMPLER"), "ratio") {
		if ratio, err := strconv.ParseFloat(text, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			errs = append(errs, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, found %q", text))
		}
	}
	return errors.Join(errs...)
}

// Shutdown sends what was not sent yet, until ctx ends.
func (t *Traces) Shutdown(ctx context.Context) error {
	if t.exported == nil {
		return nil
	}
	err := t.exported.Shutdown(ctx)
	if err != nil {
		t.exporter.abandon(ctx)
	}
	return err
}

// failed marks a span. What went wrong is in the log, under the ids of the span:
// errors have texts that are not for everybody who sees traces.
func failed(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
}

// Database returns a tracer of connections that combines others with one for
// queries. It traces queries within a span, so that idle polling leaves no traces,
// with their text and never with their arguments.
func (t *Traces) Database(others ...pgx.QueryTracer) pgx.QueryTracer {
	if t.exported != nil {
		others = append(others, otelpgx.NewTracer(
			otelpgx.WithTracerProvider(t.provider), otelpgx.WithMeterProvider(nometrics.NewMeterProvider()),
			otelpgx.WithDisableConnectionDetailsInAttributes(), // the same for all
			otelpgx.WithDisableAcquireTracer(),                 // metrics have the waits
		))
	}
	return multitracer.New(others...)
}

// Pages is the middleware of a projector's router that makes each page a trace.
func (t *Traces) Pages(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		page := eventstore.PageFrom(msg.Context())
		if page == nil || t.exported == nil {
			return next(msg)
		}
		ctx, span := t.tracer.Start(msg.Context(), "project "+message.HandlerNameFromCtx(msg.Context()),
			trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithAttributes(
				attribute.Int64("dixie.page.from", page.From), attribute.Int64("dixie.page.to", page.To),
				attribute.Int("dixie.page.events", len(page.Events))))
		defer span.End()
		msg.SetContext(ctx)
		produced, err := next(msg)
		failed(span, err)
		return produced, err
	}
}

var _ eventstore.Observer = (*Traces)(nil)

// BatchStarted implements [eventstore.Observer]. A batch is part of the trace of
// the only caller that shares it, and has a trace of its own with links to them
// when there are several. Of callers that are not traced nothing is seen.
func (t *Traces) BatchStarted(ctx context.Context, batch eventstore.Batch) (context.Context, func(error)) {
	var links []trace.Link
	for _, caller := range batch.Callers {
		if span := trace.SpanFromContext(caller); span.IsRecording() {
			links = append(links, trace.Link{SpanContext: span.SpanContext()})
		}
	}
	if len(links) == 0 {
		return ctx, func(error) {}
	}
	options := []trace.SpanStartOption{trace.WithAttributes(
		attribute.Int("dixie.batch.appends", len(batch.Callers)), attribute.Int("dixie.batch.events", batch.Events))}
	if len(batch.Callers) == 1 {
		ctx = trace.ContextWithSpan(ctx, trace.SpanFromContext(batch.Callers[0]))
	} else {
		options = append(options, trace.WithLinks(links...))
	}
	ctx, span := t.tracer.Start(ctx, "append", options...)
	return ctx, func(err error) {
		failed(span, err)
		span.End()
	}
}
