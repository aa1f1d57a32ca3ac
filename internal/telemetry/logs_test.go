package telemetry_test

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"testing"
	"testing/slogtest"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"

	"dixie/internal/telemetry"
)

type idKey struct{}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(idKey{}).(string)
	return id
}

// inTrace is a context of request r-1 in a trace.
func inTrace() context.Context {
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0xab, 15: 1}, SpanID: trace.SpanID{0xcd, 7: 2},
	})
	return context.WithValue(trace.ContextWithSpanContext(context.Background(), span), idKey{}, "r-1")
}

func TestLogHandlerAddsIDs(t *testing.T) {
	t.Parallel()
	ids := map[string]any{
		"request_id": "r-1", "trace_id": "ab000000000000000000000000000001", "span_id": "cd00000000000002",
	}
	tests := map[string]struct {
		log  func(ctx context.Context, l *slog.Logger)
		ctx  context.Context
		want map[string]any // without the ids
		ids  map[string]any
	}{
		"request and trace": {
			ctx: inTrace(), ids: ids, want: map[string]any{"a": 1.0},
			log: func(ctx context.Context, l *slog.Logger) { l.InfoContext(ctx, "m", "a", 1) },
		},
		"request only": {
			ctx: context.WithValue(context.Background(), idKey{}, "r-2"), ids: map[string]any{"request_id": "r-2"}, want: map[string]any{},
			log: func(ctx context.Context, l *slog.Logger) { l.InfoContext(ctx, "m") },
		},
		"neither": {
			ctx: context.Background(), want: map[string]any{"a": 1.0},
			log: func(ctx context.Context, l *slog.Logger) { l.InfoContext(ctx, "m", "a", 1) },
		},
		"no context": {
			ctx: inTrace(), want: map[string]any{},
			log: func(_ context.Context, l *slog.Logger) { l.Info("m") },
		},
		"given by the call": {
			ctx: inTrace(), ids: ids, want: map[string]any{"request_id": "mine"},
			log: func(ctx context.Context, l *slog.Logger) { l.InfoContext(ctx, "m", "request_id", "mine") },
		},
		"attributes of the logger": {
			ctx: inTrace(), ids: ids, want: map[string]any{"a": 1.0, "b": 2.0},
			log: func(ctx context.Context, l *slog.Logger) { l.With("a", 1).InfoContext(ctx, "m", "b", 2) },
		},
		"a group": {
			ctx: inTrace(), ids: ids,
			want: map[string]any{"a": 1.0, "g": map[string]any{"b": 2.0, "h": map[string]any{"c": 3.0}}},
			log: func(ctx context.Context, l *slog.Logger) {
				l.With("a", 1).WithGroup("g").With("b", 2).WithGroup("h").InfoContext(ctx, "m", "c", 3)
			},
		},
		"the name of an id in a group": {
			ctx: inTrace(), ids: ids, want: map[string]any{"g": map[string]any{"request_id": "other"}},
			log: func(ctx context.Context, l *slog.Logger) {
				l.WithGroup("g").InfoContext(ctx, "m", "request_id", "other")
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			tt.log(tt.ctx, slog.New(telemetry.NewLogHandler(slog.NewJSONHandler(&out, nil), requestID)))
			want := map[string]any{}
			maps.Copy(want, tt.ids)
			maps.Copy(want, tt.want)
			if diff := cmp.Diff(want, attributes(t, out.Bytes())); diff != "" {
				t.Errorf("%s%s", diff, &out)
			}
		})
	}
}

// attributes are those of one line, in which none may come twice.
func attributes(t *testing.T, line []byte) map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(line, &all); err != nil { // also for a name that comes twice
		t.Fatalf("%v: %s", err, line)
	}
	for _, key := range []string{slog.TimeKey, slog.LevelKey, slog.MessageKey} {
		delete(all, key)
	}
	return all
}

// TestLogHandlerIsAHandler: what slog promises of handlers holds behind this one.
func TestLogHandlerIsAHandler(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out.Reset()
		return telemetry.NewLogHandler(slog.NewJSONHandler(&out, nil), requestID)
	}, func(t *testing.T) map[string]any {
		var result map[string]any
		if err := json.Unmarshal(out.Bytes(), &result); err != nil {
			t.Fatal(err)
		}
		return result
	})
}

func TestLogHandlerKeepsTheLevel(t *testing.T) {
	t.Parallel()
	h := telemetry.NewLogHandler(slog.NewJSONHandler(&bytes.Buffer{}, &slog.HandlerOptions{Level: slog.LevelWarn}), requestID)
	if h.Enabled(t.Context(), slog.LevelInfo) || !h.Enabled(t.Context(), slog.LevelWarn) {
		t.Error("another level than the handler's behind")
	}
}
