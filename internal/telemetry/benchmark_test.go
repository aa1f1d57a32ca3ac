package telemetry_test

import (
	"context"
	"log/slog"
	nethttp "net/http"
	"net/http/httptest"
	"testing"

	"dixie/eventstore"
	"dixie/http"
	"dixie/internal/otlptest"
	"dixie/internal/telemetry"
	"dixie/projections"
	"dixie/reputation"
)

// anybody lets everybody in.
type anybody struct{}

func (anybody) Authenticate(context.Context, string) (http.Caller, error) {
	return http.Caller{Name: "bench", Scopes: []string{"read"}}, nil
}

type fine struct{}

func (fine) Ready(context.Context) error        { return nil }
func (fine) Health(context.Context) http.Health { return http.Health{} }

// BenchmarkRequest is what a small read in memory costs by what is watched.
func BenchmarkRequest(b *testing.B) {
	quiet := slog.New(slog.DiscardHandler)
	routes := telemetry.Routes{
		Of: http.Route, Skip: func(*nethttp.Request) bool { return false }, Long: func(*nethttp.Request) bool { return false },
	}
	traced := func(b *testing.B, endpoint, traceparent string) (func(*http.Config), string) {
		traces, err := telemetry.StartTraces(b.Context(), telemetry.TraceConfig{Endpoint: endpoint, Logger: quiet})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = traces.Shutdown(context.Background()) })
		return func(c *http.Config) {
			c.Metrics = telemetry.NewMetrics(telemetry.Build{})
			c.Tracing = traces.Requests(routes)
		}, traceparent
	}
	for name, watch := range map[string]func(b *testing.B) (func(*http.Config), string){
		"nothing": func(*testing.B) (func(*http.Config), string) { return func(*http.Config) {}, "" },
		"metrics": func(*testing.B) (func(*http.Config), string) {
			return func(c *http.Config) { c.Metrics = telemetry.NewMetrics(telemetry.Build{}) }, ""
		},
		"no collector":  func(b *testing.B) (func(*http.Config), string) { return traced(b, "", "") },
		"callers trace": func(b *testing.B) (func(*http.Config), string) { return traced(b, "", traceparent) },
		"trace, not sampled": func(b *testing.B) (func(*http.Config), string) {
			return traced(b, otlptest.Start(b).URL, traceparent[:len(traceparent)-1]+"0")
		},
		"trace, sampled": func(b *testing.B) (func(*http.Config), string) { return traced(b, otlptest.Start(b).URL, "") },
	} {
		b.Run(name, func(b *testing.B) {
			set, traceparent := watch(b)
			log := eventstore.NewMemory()
			config := http.Config{
				Log: log, Importer: eventstore.Importer{Log: log}, Reputations: projections.NewMemory(log),
				Authenticator: anybody{}, Monitor: fine{}, Params: reputation.DefaultParams(), Logger: quiet,
			}
			set(&config)
			server := http.NewServer(config)
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(nethttp.MethodGet, "/api/reputation/query?routingKey=nft:bear-1", nil)
				r.Header.Set("Authorization", "Bearer x")
				if traceparent != "" {
					r.Header.Set("Traceparent", traceparent)
				}
				server.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}

// BenchmarkMetrics is what counting costs.
func BenchmarkMetrics(b *testing.B) {
	m := telemetry.NewMetrics(telemetry.Build{})
	b.Run("request", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.RequestStarted()
			m.RequestDone(nethttp.MethodGet, "/api/reputation/{nftId}", 200, 1000)
		}
	})
	b.Run("append", func(b *testing.B) {
		log := m.Log(instantLog{})
		b.ReportAllocs()
		for b.Loop() {
			_, _ = log.Append(context.Background())
		}
	})
}

type instantLog struct {
	reputation.Log
}

func (instantLog) Append(context.Context, ...reputation.Entry) ([]reputation.Appended, error) {
	return nil, nil
}
