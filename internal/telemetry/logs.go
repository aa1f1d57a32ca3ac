package telemetry

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// The attributes that [LogHandler] adds.
const (
	requestIDKey = "request_id"
	traceIDKey   = "trace_id"
	spanIDKey    = "span_id"
)

// LogHandler adds the ids of the request and of the trace to each record that is
// logged with a context that has them, at its top level, so that the calls need
// not. An id that a call gives itself is kept. Use [NewLogHandler].
type LogHandler struct {
	next      slog.Handler
	requestID func(context.Context) string
	open      []func(slog.Handler) slog.Handler // groups and what is in them
}

var _ slog.Handler = (*LogHandler)(nil)

// NewLogHandler returns a handler in front of another. requestID is the id of a
// context's request, and empty for one without.
func NewLogHandler(next slog.Handler, requestID func(context.Context) string) *LogHandler {
	return &LogHandler{next: next, requestID: requestID}
}

// Enabled implements [slog.Handler].
func (h *LogHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (h *LogHandler) Handle(ctx context.Context, r slog.Record) error {
	ids := h.ids(ctx, r)
	if len(h.open) == 0 {
		r.AddAttrs(ids...)
		return h.next.Handle(ctx, r)
	}
	next := h.next
	if len(ids) > 0 {
		next = next.WithAttrs(ids)
	}
	for _, apply := range h.open {
		next = apply(next)
	}
	return next.Handle(ctx, r)
}

// ids are the attributes of a context that a record does not have.
func (h *LogHandler) ids(ctx context.Context, r slog.Record) []slog.Attr {
	var ids []slog.Attr
	add := func(key, id string) {
		if id != "" && (len(h.open) > 0 || !has(r, key)) {
			ids = append(ids, slog.String(key, id))
		}
	}
	add(requestIDKey, h.requestID(ctx))
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		add(traceIDKey, span.TraceID().String())
		add(spanIDKey, span.SpanID().String())
	}
	return ids
}

func has(r slog.Record, key string) (found bool) {
	r.Attrs(func(a slog.Attr) bool {
		found = a.Key == key
		return !found
	})
	return found
}

// WithAttrs implements [slog.Handler].
func (h *LogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(h.open) == 0 {
		return &LogHandler{next: h.next.WithAttrs(attrs), requestID: h.requestID}
	}
	return h.opened(func(next slog.Handler) slog.Handler { return next.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler]. What is logged in the group is; the ids are
// not.
func (h *LogHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.opened(func(next slog.Handler) slog.Handler { return next.WithGroup(name) })
}

func (h *LogHandler) opened(apply func(slog.Handler) slog.Handler) slog.Handler {
	open := append(h.open[:len(h.open):len(h.open)], apply)
	return &LogHandler{next: h.next, requestID: h.requestID, open: open}
}
