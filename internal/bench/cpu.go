package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// tick is the unit of the times in /proc (USER_HZ, which is 100 wherever Linux runs).
const tick = 10 * time.Millisecond

// A meter sums up the processor time that the server, PostgreSQL and the client, which
// is this process, take for something, on Linux. It says what they were limited by.
type meter struct {
	server, postmaster int // process ids; 0 is not known
	spent              cpu
	elapsed            time.Duration
	count              int // of what was done
}

// cpu is the processor time of each part.
type cpu struct{ server, postgres, client time.Duration }

// newMeter looks at a server, which may be nil, and its database.
func (p *postgres) newMeter(ctx context.Context, s *server) (*meter, error) {
	var m meter
	if runtime.GOOS != "linux" {
		return &m, nil
	}
	if s != nil {
		m.server = s.cmd.Process.Pid
	}
	err := p.do(ctx, "postgres", func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int`).Scan(&m.postmaster)
	})
	if _, gone := os.Stat(fmt.Sprintf("/proc/%d/stat", m.postmaster)); gone != nil {
		m.postmaster = 0 // it is in a container
	}
	return &m, err
}

// during adds up what a piece of work takes that does something so many times.
func (m *meter) during(count int, work func() error) error {
	before, err := m.read()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := work(); err != nil {
		return err
	}
	m.elapsed += time.Since(start)
	after, err := m.read()
	m.spent.server += after.server - before.server
	m.spent.postgres += after.postgres - before.postgres
	m.spent.client += after.client - before.client
	m.count += count
	return err
}

// each says how much was spent for each of what was done, and how much of the
// processors that was.
func (m *meter) each(what string) string {
	if m.server == 0 && m.postmaster == 0 || m.count == 0 {
		return ""
	}
	part := func(d time.Duration) string { return (d / time.Duration(m.count)).Round(time.Microsecond).String() }
	all := m.spent.server + m.spent.postgres + m.spent.client
	return fmt.Sprintf("processor time of each %s: server %s, PostgreSQL %s, client %s; %.0f %% of the processors",
		what, part(m.spent.server), part(m.spent.postgres), part(m.spent.client),
		100*all.Seconds()/m.elapsed.Seconds()/float64(runtime.NumCPU()))
}

func (m *meter) read() (c cpu, err error) {
	if m.server == 0 && m.postmaster == 0 {
		return c, nil
	}
	self, err := readProcess(os.Getpid())
	if err != nil {
		return c, err
	}
	c.client = self.own
	if m.server != 0 {
		server, err := readProcess(m.server)
		if err != nil {
			return c, err
		}
		c.server = server.own
	}
	if m.postmaster != 0 {
		c.postgres, err = family(m.postmaster)
	}
	return c, err
}

// family is the processor time of a process and its children, those that have ended
// among them.
func family(parent int) (time.Duration, error) {
	first, err := readProcess(parent)
	if err != nil {
		return 0, err
	}
	sum := first.own + first.ended
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range all {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return 0, err
		}
		child, err := readProcess(pid)
		if errors.Is(err, fs.ErrNotExist) || err == nil && child.parent != parent {
			continue // it has ended, or is another's
		}
		if err != nil {
			return 0, err
		}
		sum += child.own
	}
	return sum, nil
}

// process is what /proc tells of one.
type process struct {
	parent     int
	own, ended time.Duration // processor time of itself, and of children that have ended
}

func readProcess(pid int) (process, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The name, in parentheses, may have spaces and more of them.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 15 {
		return process{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var numbers [15]int
	for _, i := range []int{1, 11, 12, 13, 14} {
		if numbers[i], err = strconv.Atoi(fields[i]); err != nil {
			return process{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	return process{
		parent: numbers[1],
		own:    time.Duration(numbers[11]+numbers[12]) * tick, ended: time.Duration(numbers[13]+numbers[14]) * tick,
	}, nil
}
