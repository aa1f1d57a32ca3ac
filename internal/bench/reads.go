package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"dixie/internal/dixiecmd"
)

const (
	readers     = 32
	reads       = 40_000 // in a round
	readEvents  = 200_000
	readAgents  = 10_000
	queryTarget = 0.70 // of the rate of the limit
	getTarget   = 0.40
)

func benchQuery(ctx context.Context, r *run) error {
	return r.compareReads(ctx, "GET /api/reputation/query", "/api/reputation/query?routingKey=nft:agent-%d", queryTarget)
}

func benchGet(ctx context.Context, r *run) error {
	return r.compareReads(ctx, "GET /api/reputation/{nftId}", "/api/reputation/agent-%d", getTarget)
}

// compareReads compares reads of random agents with a handler that writes a constant of
// the size that most answers have.
func (r *run) compareReads(ctx context.Context, what, path string, target float64) error {
	p, err := r.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	events := min(r.events, readEvents)
	agents := r.agentsOf(events, readAgents)
	s, err := r.serveProjected(ctx, p, "live", events, agents)
	if err != nil {
		return err
	}
	defer s.stop()
	requests := randomReads(path, agents, min(r.events, reads))
	size, err := s.sizeOf(ctx, requests[:min(len(requests), 100)])
	if err != nil {
		return err
	}
	constant, err := r.serveConstant(ctx, size)
	if err != nil {
		return err
	}
	defer constant.stop()
	serving, err := p.newMeter(ctx, s)
	if err != nil {
		return err
	}
	limiting, err := p.newMeter(ctx, constant)
	if err != nil {
		return err
	}
	rate := func(base string, m *meter) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			var l loaded
			err := m.during(len(requests), func() (err error) {
				l, err = load(ctx, base, readers, http.StatusOK, requests)
				return err
			})
			return float64(len(requests)) / l.seconds, err
		}
	}
	c, err := r.inTurns(ctx, rate(s.url, serving), rate(constant.url, limiting))
	if err != nil {
		return err
	}
	c.by = serving.each("request") + "; of the constant: " + limiting.each("request")
	r.report.add(c.share(fmt.Sprintf("%s, %d connections, %d agents", what, readers, agents),
		"requests/s", fmt.Sprintf("gorilla/mux with a constant of %d bytes:", size), target))
	return nil
}

// randomReads are requests for random agents that the log has events of.
func randomReads(path string, agents, count int) [][]byte {
	random := rand.New(rand.NewPCG(4, 4))
	requests := make([][]byte, count)
	for i := range requests {
		requests[i] = get(fmt.Sprintf(path, random.IntN(agents)))
	}
	return requests
}

// serveProjected serves a new database with a log that is projected. The server is to
// be stopped.
func (r *run) serveProjected(ctx context.Context, p *postgres, database string, events, agents int) (*server, error) {
	if err := r.fillDatabase(ctx, p, database, events, agents); err != nil {
		return nil, err
	}
	if _, err := r.runDixie(ctx, p, database, "rebuild"); err != nil {
		return nil, err
	}
	return r.serve(ctx, p, database)
}

// withLog runs work on a new PostgreSQL with a log of the usual length in the database
// log.
func (r *run) withLog(ctx context.Context, work func(*postgres) error) error {
	p, err := r.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := r.fillDatabase(ctx, p, "log", r.events, r.agents); err != nil {
		return err
	}
	return work(p)
}

// fillDatabase makes a database with a log of so many events.
func (r *run) fillDatabase(ctx context.Context, p *postgres, database string, events, agents int) error {
	r.log.InfoContext(ctx, "filling a log", "events", events, "agents", agents)
	if err := p.create(ctx, database); err != nil {
		return err
	}
	return p.do(ctx, database, func(conn *pgx.Conn) error { return fillLog(ctx, conn, events, agents) })
}

// agentsOf is how many agents a log of so many events has: so few that each has events.
func (r *run) agentsOf(events, most int) int {
	return max(1, min(r.agents, most, events/20))
}

// sizeOf is the mean size of the answers' bodies.
func (s *server) sizeOf(ctx context.Context, requests [][]byte) (int, error) {
	w, err := dial(ctx, s.url)
	if err != nil {
		return 0, err
	}
	defer w.close()
	sum := 0
	for _, request := range requests {
		if err := w.do(request, http.StatusOK); err != nil {
			return 0, err
		}
		sum += len(w.body)
	}
	return sum / len(requests), nil
}

// serveConstant starts a server that answers with so many bytes. It is to be stopped.
func (r *run) serveConstant(ctx context.Context, size int) (*server, error) {
	cmd := exec.CommandContext(ctx, r.constant, strconv.Itoa(size))
	cmd.Env = dixiecmd.Environ()
	if _, err := cmd.StdinPipe(); err != nil { // which ends with this process
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("the server of constants did not start: %w", err)
	}
	s.url = strings.TrimSpace(line)
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	return s, nil
}
