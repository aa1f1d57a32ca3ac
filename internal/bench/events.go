package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// collections is how many collections the agents are of.
const collections = 100

// event is one of all kinds, by a random agent of many: the JSON and its type.
func event(random *rand.Rand, n, agents int) (nft, kind, text string) {
	agent := random.IntN(agents)
	task := []string{"analysis", "code_review", "unspecified", "legal-guild:contract_review"}[random.IntN(4)]
	at := time.Unix(1_770_000_000+int64(n), 0).UTC().Format("2006-01-02T15:04:05.000Z")
	head := fmt.Sprintf(`{"event_id":"%08x-0000-4000-8000-%012x","agent_id":"agent-%d","collection_id":"c%d","timestamp":"%s",`,
		agent, n, agent, agent%collections, at)
	switch random.IntN(10) {
	case 0, 1, 2:
		kind = "quality_signal"
		text = fmt.Sprintf(`"score":%.3f,"task_type":%q,"dimensions":{"accuracy":%.2f,"coherence":%.2f}`,
			random.Float64(), task, random.Float64(), random.Float64())
	case 3, 4, 5, 6:
		kind = "model_performance"
		text = fmt.Sprintf(`"model_id":"m%d","provider":"p","pool_id":"alpha","task_type":%q,"quality_observation":{"score":%.3f,"latency_ms":%d,"evaluated_by":"judge-%d"}`,
			random.IntN(3), task, random.Float64(), random.IntN(5000), random.IntN(9))
	case 7, 8:
		kind = "task_completed"
		text = fmt.Sprintf(`"task_type":%q,"success":%t,"duration_ms":%d`, task, random.IntN(4) > 0, random.IntN(9999))
	default:
		kind = "credential_update"
		text = fmt.Sprintf(`"credential_id":"00000000-0000-4000-8000-%012d","action":"issued"`, random.IntN(3))
	}
	return fmt.Sprintf("agent-%d", agent), kind, head + text + `,"type":"` + kind + `"}`
}

// fillLog writes a log of random events, the same for the same numbers.
func fillLog(ctx context.Context, conn *pgx.Conn, events, agents int) error {
	random := rand.New(rand.NewPCG(1, uint64(agents)))
	start := time.Now().Add(-time.Hour)
	n := 0
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"reputation_events"},
		[]string{"position", "nft_id", "event_type", "event", "created_at"},
		pgx.CopyFromFunc(func() ([]any, error) {
			if n == events {
				return nil, nil
			}
			n++
			nft, kind, text := event(random, n, agents)
			return []any{int64(n), nft, kind, []byte(text), start.Add(time.Duration(n) * time.Microsecond)}, nil
		}))
	if err == nil {
		_, err = conn.Exec(ctx, `VACUUM ANALYZE reputation_events`)
	}
	return err
}
