package pgtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const killTimeout = 30 * time.Second

// killTree ends the process and its children with SIGKILL and returns when they
// are gone: a server cannot start beside a child of its predecessor.
func (p *process) killTree() error {
	children, err := p.freeze()
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	p.signal(syscall.SIGKILL)
	<-p.done
	if err != nil {
		return err
	}
	return poll(func(all map[int]procInfo) bool {
		for _, child := range children {
			if info, ok := all[child]; ok && !info.zombie {
				return false
			}
		}
		return true
	})
}

// freeze stops the process, so that it starts no more children and the ids of
// those it has stay theirs even if they end, and returns these.
func (p *process) freeze() ([]int, error) {
	p.signal(syscall.SIGSTOP)
	var children []int
	err := poll(func(all map[int]procInfo) bool {
		if info, ok := all[p.proc.Pid]; ok && !info.stopped && !info.zombie {
			return false
		}
		for pid, info := range all {
			if info.parent == p.proc.Pid {
				children = append(children, pid)
			}
		}
		return true
	})
	return children, err
}

// poll lists the processes until done says that they are as expected.
func poll(done func(map[int]procInfo) bool) error {
	deadline := time.Now().Add(killTimeout)
	for {
		all, err := processes()
		if err != nil {
			return fmt.Errorf("list processes: %w", err)
		}
		if done(all) {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("a process of PostgreSQL does not end")
		}
		time.Sleep(pollInterval / 2)
	}
}

// procInfo is what a listing says of a process.
type procInfo struct {
	parent          int
	stopped, zombie bool
}

func newProcInfo(parent int, state string) procInfo {
	return procInfo{
		parent:  parent,
		stopped: strings.HasPrefix(state, "T"),
		zombie:  strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X"),
	}
}

// processes lists the processes of this machine by their id.
func processes() (map[int]procInfo, error) {
	if _, err := os.Stat("/proc/self/stat"); err == nil {
		return processesFromProc()
	}
	return processesFromPS()
}

func processesFromProc() (map[int]procInfo, error) {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	all := make(map[int]procInfo, len(names))
	for _, name := range names {
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		if pid, info, ok := parseStat(b); ok {
			all[pid] = info
		}
	}
	return all, nil
}

// parseStat reads "pid (name) state parent ...", where the name can hold
// anything.
func parseStat(b []byte) (int, procInfo, bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return 0, procInfo{}, false
	}
	rest := strings.Fields(string(b[end+1:]))
	if len(rest) < 2 {
		return 0, procInfo{}, false
	}
	return parseProc(string(b[:open]), rest[1], rest[0])
}

func parseProc(pid, parent, state string) (int, procInfo, bool) {
	id, err := strconv.Atoi(strings.TrimSpace(pid))
	if err != nil {
		return 0, procInfo{}, false
	}
	parentID, err := strconv.Atoi(parent)
	if err != nil {
		return 0, procInfo{}, false
	}
	return id, newProcInfo(parentID, state), true
}

func processesFromPS() (map[int]procInfo, error) {
	out, err := exec.Command("ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "stat=").Output()
	if err != nil {
		return nil, fmt.Errorf("ps: %w", err)
	}
	all := map[int]procInfo{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 3 {
			continue
		}
		if pid, info, ok := parseProc(f[0], f[1], f[2]); ok {
			all[pid] = info
		}
	}
	return all, lines.Err()
}
