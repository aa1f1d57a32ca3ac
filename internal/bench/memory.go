package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strconv"
)

const (
	serverAgents = 100_000
	serverTarget = 150 << 20 // bytes

	memoryRequests = 10_000 // of each kind
)

// benchMemory measures the memory of a server that has projected many agents by itself,
// and has taken appends and reads since.
func benchMemory(ctx context.Context, r *run) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the memory of a process is read from /proc, which %s has not", runtime.GOOS)
	}
	p, err := r.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	agents := min(serverAgents, max(1, r.events/10))
	if err := r.fillDatabase(ctx, p, "log", r.events, agents); err != nil {
		return err
	}
	var resident, most samples
	for range r.repeat {
		if err := p.copyDatabase(ctx, "log", "live"); err != nil {
			return err
		}
		now, peak, err := r.memoryOfServer(ctx, p, agents)
		if err != nil {
			return err
		}
		resident, most = append(resident, now), append(most, peak)
	}
	mib := func(bytes float64) string { return fmt.Sprintf("%.0f MiB", bytes/(1<<20)) }
	r.report.add(line{
		what:  fmt.Sprintf("memory of a server with %d agents, %d events", agents, r.events),
		value: resident.spread(mib), limit: "the most while it caught up " + most.spread(mib), ratio: "–",
		target: "less than " + mib(serverTarget), met: resident.median() < serverTarget,
	})
	return nil
}

// memoryOfServer is the resident memory of a server when it has projected a log and
// taken appends and reads, and the most that it had, in bytes.
func (r *run) memoryOfServer(ctx context.Context, p *postgres, agents int) (now, most float64, err error) {
	s, err := r.serve(ctx, p, "live")
	if err != nil {
		return 0, 0, err
	}
	defer s.stop()
	if err := s.reach(ctx, r.events); err != nil {
		return 0, 0, err
	}
	if err := s.use(ctx, rows(r.events, min(r.events, memoryRequests), agents), r.events); err != nil {
		return 0, 0, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	if now, err = statusBytes(status, "VmRSS"); err != nil {
		return 0, 0, err
	}
	most, err = statusBytes(status, "VmHWM")
	return now, most, err
}

// use appends rows to a log of so many events and reads what they are of, by the agent
// and as a list.
func (s *server) use(ctx context.Context, rows []row, events int) error {
	var appends, reads [][]byte
	for _, row := range rows {
		appends = append(appends, post("/api/reputation/"+row.nft+"/events", "application/json", []byte(row.text)))
		reads = append(reads, get("/api/reputation/"+row.nft), get("/api/reputation/query?routingKey=nft:"+row.nft))
	}
	for range min(len(rows), 100) {
		reads = append(reads, get("/api/reputation?limit=50&state=warming"))
	}
	if _, err := load(ctx, s.url, readers, http.StatusCreated, appends); err != nil {
		return err
	}
	if err := s.reach(ctx, events+len(rows)); err != nil {
		return err
	}
	_, err := load(ctx, s.url, readers, http.StatusOK, reads)
	return err
}

// statusBytes is a size of a process' status.
func statusBytes(status []byte, name string) (float64, error) {
	match := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+) kB$`).FindSubmatch(status)
	if match == nil {
		return 0, fmt.Errorf("no %s in the status of the server", name)
	}
	kib, err := strconv.ParseFloat(string(match[1]), 64)
	return kib * 1024, err
}
