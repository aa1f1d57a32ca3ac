package telemetry

import "net/http"

// WithClient sets the client that traces are exported with.
func WithClient(config TraceConfig, client *http.Client) TraceConfig {
	config.client = client
	return config
}
