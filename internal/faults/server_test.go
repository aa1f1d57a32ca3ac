package faults_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// grace is how long a server's requests may go on after SIGTERM, and graceSlack how
	// much longer the process may take to end on a busy machine.
	grace      = 4 * time.Second
	graceSlack = 6 * time.Second

	// startPatience is how long a server may take to start, PostgreSQL's recovery
	// included.
	startPatience = 90 * time.Second
)

// server is one replica: a place for a process, which comes and goes. Its methods are
// safe for concurrent use; start, kill, stop, pause and resume are called by who holds
// its lock.
type server struct {
	sync.Mutex // held by the fault that has to do with it

	t        testing.TB
	name     string
	settings func() []string // variables of the next process
	logs     string          // file of all its processes
	url      atomic.Pointer[string]

	// pauses counts how often it was paused or resumed: odd while it is paused. A
	// request that saw it change may take any time.
	pauses atomic.Int64

	process *process
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	last string        // line of its log; valid when done is closed
}

var servingLine = regexp.MustCompile(`"msg":"serving","url":"([^"]+)"`)

// base is where the server can be reached; empty before its first start.
func (s *server) base() string {
	if url := s.url.Load(); url != nil {
		return *url
	}
	return ""
}

// start runs the server until it answers. A process that ends at once, because the
// database is away, is started again, as an orchestrator would.
func (s *server) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		err := s.launch(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not start: %w", s.name, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (s *server) launch(ctx context.Context) error {
	cmd := exec.Command(dixie, "serve", "--host", "127.0.0.1", "--port", "0")
	cmd.Env = append(cleanEnv(), s.settings()...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	serving := make(chan string, 1)
	go p.follow(bufio.NewScanner(stderr), s.logs, serving)
	select {
	case url := <-serving:
		s.url.Store(&url)
		s.process = p
		return nil
	case <-p.done:
		return errors.New(p.last)
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-p.done
		return ctx.Err()
	}
}

// follow keeps the log of a process until it has ended.
func (p *process) follow(lines *bufio.Scanner, path string, serving chan<- string) {
	defer close(p.done)
	lines.Buffer(nil, 16<<20)
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err) // the test's own directory
	}
	defer file.Close()
	for lines.Scan() {
		p.last = lines.Text()
		fmt.Fprintln(file, p.last)
		if match := servingLine.FindStringSubmatch(p.last); match != nil {
			serving <- match[1]
		}
	}
	_ = p.cmd.Wait()
}

// kill ends the process without notice.
func (s *server) kill() {
	if s.process == nil {
		return
	}
	_ = s.process.cmd.Process.Kill()
	<-s.process.done
	s.process = nil
}

// stop asks the process to end. It tells what is wrong with how it did.
func (s *server) stop() error {
	p := s.process
	if p == nil {
		return nil
	}
	s.process = nil
	start := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace + graceSlack):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // for the stacks of its goroutines
		<-p.done
		return fmt.Errorf("%s did not end within %s of SIGTERM", s.name, time.Since(start).Round(time.Millisecond))
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with code %d after SIGTERM: %s", s.name, code, p.last)
	}
	return nil
}

// pause and resume freeze the process as a hypervisor or a debugger would.
func (s *server) pause() {
	s.pauses.Add(1)
	_ = s.process.cmd.Process.Signal(syscall.SIGSTOP)
}

func (s *server) resume() {
	_ = s.process.cmd.Process.Signal(syscall.SIGCONT)
	s.pauses.Add(1)
}

// pid is the process'.
func (s *server) pid() int { return s.process.cmd.Process.Pid }

// disasters are what no log may have.
var disasters = []string{"DATA RACE", "panic:", `"msg":"panic`, "fatal error:", "nobody sent", "SIGQUIT"}

// disaster is the first line of the log that must not be there, with what follows it.
func (s *server) disaster() string {
	text, err := os.ReadFile(s.logs)
	if err != nil {
		return err.Error()
	}
	for _, word := range disasters {
		if at := strings.Index(string(text), word); at >= 0 {
			from := strings.LastIndexByte(string(text[:at]), '\n') + 1
			return string(text[from:min(len(text), from+6000)])
		}
	}
	return ""
}
