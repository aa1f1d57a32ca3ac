// Package telemetry shows operators what the service does: metrics in the format
// of Prometheus ([Metrics]), traces over OTLP ([Traces]), and the ids of request
// and trace in every log line ([LogHandler]). It is the one package that knows
// Prometheus and OpenTelemetry. Others declare what they tell (such as
// [eventstore.Observer]) or let themselves be wrapped, and know nothing of it.
//
// Nothing in metrics or traces comes from a caller except paths and headers that
// name no secret: no query strings, no bodies, no tokens, no SQL arguments.
package telemetry
