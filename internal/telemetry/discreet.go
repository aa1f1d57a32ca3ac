package telemetry

import (
	"context"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// discreet exports spans without anything that could be a secret, whatever the
// libraries put into them now or later: only known attributes, no texts of errors,
// and of a URL neither query nor user.
type discreet struct {
	sdktrace.SpanExporter
	logger *slog.Logger

	mu      sync.Mutex // held while spans are exported
	failing bool
}

// ExportSpans implements [sdktrace.SpanExporter]. Its error is nil, as the library
// would write it past the log.
func (d *discreet) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	quiet := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, span := range spans {
		quiet[i] = quietSpan{span}
	}
	err := d.SpanExporter.ExportSpans(ctx, quiet)
	if err != nil && !d.failing {
		d.logger.WarnContext(ctx, "traces cannot be exported, and are lost until they can", "error", clip(err.Error()))
	}
	if err == nil && d.failing {
		d.logger.InfoContext(ctx, "traces are exported again")
	}
	d.failing = err != nil
	return nil
}

// abandon breaks off what is being exported, and waits for its end.
func (d *discreet) abandon(ctx context.Context) {
	_ = d.SpanExporter.Shutdown(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
}

// clip bounds the text of an error, which has the collector's answer in it.
func clip(text string) string {
	const most = 300
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

type quietSpan struct {
	sdktrace.ReadOnlySpan
}

// Attributes implements [sdktrace.ReadOnlySpan].
func (s quietSpan) Attributes() []attribute.KeyValue {
	all := s.ReadOnlySpan.Attributes()
	kept := make([]attribute.KeyValue, 0, len(all))
	for _, one := range all {
		switch {
		case one.Key == "url.full":
			kept = append(kept, one.Key.String(withoutTokens(withoutQuery(one.Value.AsString()))))
		case one.Key == "url.path", one.Key == "user_agent.original":
			kept = append(kept, one.Key.String(withoutTokens(one.Value.AsString())))
		case harmless[one.Key], strings.HasPrefix(string(one.Key), "dixie."):
			kept = append(kept, one)
		}
	}
	return kept
}

// harmless are the attributes that are exported as they are, of OpenTelemetry's
// semantic conventions and of otelpgx.
var harmless = map[attribute.Key]bool{
	"client.address": true, "network.peer.address": true, "network.peer.port": true,
	"network.protocol.name": true, "network.protocol.version": true,
	"server.address": true, "server.port": true, "url.scheme": true,
	"http.request.method": true, "http.route": true, "http.request.body.size": true,
	"http.response.status_code": true, "http.response.body.size": true, "error.type": true,

	"db.system.name": true, "db.query.text": true, "db.operation.name": true, "db.operation.batch.size": true,
	"db.collection.name": true, "pgx.rows_affected": true, "pgx.sql_state": true,
}

// tokens are what API keys and JWTs look like. Callers put them into paths by
// mistake.
var tokens = regexp.MustCompile(`dxk_[\w-]+|eyJ[\w-]+\.[\w.-]+`)

func withoutTokens(text string) string { return tokens.ReplaceAllString(text, "…") }

func withoutQuery(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// Events implements [sdktrace.ReadOnlySpan]. Those of the libraries are errors with
// their texts, in which a database quotes what it was given.
func (s quietSpan) Events() []sdktrace.Event { return nil }

// Status implements [sdktrace.ReadOnlySpan].
func (s quietSpan) Status() sdktrace.Status {
	return sdktrace.Status{Code: s.ReadOnlySpan.Status().Code}
}
