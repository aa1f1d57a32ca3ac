package identity

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	// maxFailures consecutive failures within failureWindow open the circuit for
	// cooldown; then a single request is let through to try.
	maxFailures   = 5
	failureWindow = 30 * time.Second
	windowStep    = time.Second
	cooldown      = 10 * time.Second

	// service is finn's name in the log.
	service = "loa-finn"
)

// errAbandoned is what came of a request whose caller did not wait for it: it
// says nothing about finn.
var errAbandoned = errors.New("abandoned by the caller")

// breaker keeps requests from a finn that only fails.
type breaker struct {
	*gobreaker.TwoStepCircuitBreaker[struct{}]
	logger *slog.Logger
	// failures are those that opened the circuit, and the failed trials since. It is
	// touched by the library's callbacks alone, which never run at the same time.
	failures uint32
}

func newBreaker(logger *slog.Logger) *breaker {
	b := &breaker{logger: logger}
	b.TwoStepCircuitBreaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: service, MaxRequests: 1,
		Interval: failureWindow, BucketPeriod: windowStep, Timeout: cooldown,
		ReadyToTrip:   b.tripped,
		OnStateChange: b.changed,
		IsExcluded:    func(err error) bool { return errors.Is(err, errAbandoned) },
	})
	return b
}

func (b *breaker) tripped(counts gobreaker.Counts) bool {
	b.failures = counts.ConsecutiveFailures
	return b.failures >= maxFailures
}

// changed logs a transition. Alarms match the name of the event: it stays as it
// is.
func (b *breaker) changed(_ string, from, to gobreaker.State) {
	level := slog.LevelInfo
	switch {
	case to == gobreaker.StateClosed:
		b.failures = 0
	case to == gobreaker.StateOpen:
		level = slog.LevelWarn
		if from == gobreaker.StateHalfOpen {
			b.failures++
		}
	}
	b.logger.LogAttrs(context.Background(), level, "circuit_breaker_transition",
		slog.String("from", from.String()), slog.String("to", to.String()),
		slog.Int64("consecutive_failures", int64(b.failures)), slog.String("service", service))
}

// state is closed, open or half_open, as health spells them.
func (b *breaker) state() string { return strings.ReplaceAll(b.State().String(), "-", "_") }
