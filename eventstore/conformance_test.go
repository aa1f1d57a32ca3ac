package eventstore_test

import (
	"testing"

	"dixie/eventstore"
	"dixie/eventstore/eventstoretest"
	"dixie/internal/pgtest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) eventstore.Store{
		"memory":   func(*testing.T) eventstore.Store { return eventstore.NewMemory() },
		"postgres": func(t *testing.T) eventstore.Store { return openPostgres(t, pgtest.Pool(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eventstoretest.Test(t, open)
		})
	}
}
