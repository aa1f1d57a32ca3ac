package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	growthShort    = 100 // times longer is the long log
	growthRequests = 300
	growthTarget   = 1.5 // times of the short log
)

// benchGrowth compares the latencies of a long log with those of a short one, which two
// servers have of which one is asked at a time.
func benchGrowth(ctx context.Context, r *run) error {
	p, err := r.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	short := r.growth / growthShort
	agents := r.agentsOf(short, readAgents)
	var sides [2]*grown
	for i, events := range []int{r.growth, short} {
		s, err := r.serveProjected(ctx, p, fmt.Sprintf("log%d", events), events, agents)
		if err != nil {
			return err
		}
		defer s.stop()
		w, err := dial(ctx, s.url)
		if err != nil {
			return err
		}
		defer w.close()
		sides[i] = &grown{wire: w, events: events, agents: agents, random: rand.New(rand.NewPCG(5, 5))}
	}
	requests := min(r.growth/growthShort, growthRequests)
	for _, m := range []struct {
		what string
		one  func(*grown) (request []byte, status int)
	}{
		{"an append of 1 event", (*grown).append},
		{"a page of 500 events of the log", (*grown).page},
		{"a page of 10 events of an agent", (*grown).history},
		{"a score", (*grown).score},
	} {
		median := func(side *grown) func(context.Context) (float64, error) {
			return func(context.Context) (float64, error) { return side.median(requests, m.one) }
		}
		c, err := r.inTurns(ctx, median(sides[0]), median(sides[1]))
		if err != nil {
			return err
		}
		r.report.add(c.times(fmt.Sprintf("%s at %d events, median", m.what, r.growth), fmt.Sprintf("at %d events", short), growthTarget))
	}
	return nil
}

// grown is a log of some length, behind a server.
type grown struct {
	*wire
	events, agents int
	random         *rand.Rand
}

// median is that of the times of requests, in seconds.
func (g *grown) median(requests int, one func(*grown) ([]byte, int)) (float64, error) {
	var times samples
	for range requests {
		request, status := one(g)
		start := time.Now()
		if err := g.do(request, status); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start).Seconds())
	}
	return times.median(), nil
}

func (g *grown) append() ([]byte, int) {
	g.events++
	row := rows(g.events, 1, g.agents)[0]
	return post("/api/reputation/"+row.nft+"/events", "application/json", []byte(row.text)), http.StatusCreated
}

// page begins where both logs have so many further events, and so does history.
func (g *grown) page() ([]byte, int) {
	return get(fmt.Sprintf("/api/reputation/events?after=%d&limit=500", g.random.IntN(g.events/2))), http.StatusOK
}

func (g *grown) history() ([]byte, int) {
	return get(fmt.Sprintf("/api/reputation/agent-%d/events?after=%d&limit=10", g.random.IntN(g.agents), g.random.IntN(g.events/4))), http.StatusOK
}

func (g *grown) score() ([]byte, int) {
	return get(fmt.Sprintf("/api/reputation/query?routingKey=nft:agent-%d", g.random.IntN(g.agents))), http.StatusOK
}
