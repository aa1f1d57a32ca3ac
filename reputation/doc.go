// Package reputation is the domain: the events that an agent earns its
// reputation from, the fold that turns a history of events into reputations, and
// the formulas that answer questions about them.
//
// The package is pure. It does no I/O, starts no goroutine, logs nothing and
// never asks for the time: time comes from events, or from the caller as an
// argument. Folding the same events with the same [Params] therefore gives the
// same bytes everywhere, which is what the projections, rebuilds, replays and the
// in-memory mode rest on.
//
// References of the form "protocol §5.6" are to the sections of the reputation
// protocol (loa-hounfour 8.7.0) whose formulas are implemented here.
package reputation
