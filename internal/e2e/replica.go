package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"dixie/internal/dixiecmd"
)

const (
	readyTimeout  = 30 * time.Second
	readyInterval = 20 * time.Millisecond
	// stopTimeout is more than the service takes to stop, by its own setting.
	stopTimeout = 40 * time.Second
)

// replica is a process of the service, which can be started again. It keeps its
// address and its log file. Methods are safe for concurrent use.
type replica struct {
	url  string
	path string // of its log
	exe  string
	base map[string]string // its variables

	mu      sync.Mutex // one start or stop at a time
	command *exec.Cmd
	ended   chan struct{} // closed when the process has ended
}

func newReplica(exe, dir, name string, base map[string]string) (*replica, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	base = maps.Clone(base)
	base["DIXIE_HOST"], base["DIXIE_PORT"] = "127.0.0.1", strconv.Itoa(port)
	return &replica{
		url: fmt.Sprintf("http://127.0.0.1:%d", port), exe: exe, base: base,
		path: filepath.Join(dir, name+".log"),
	}, nil
}

// freePort is a port that is free, and likely to be free after a restart as well:
// systems give out none below 32768 by themselves.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 20_000 + rand.IntN(12_000)
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

// start starts the process with further variables, and returns when it is ready.
func (r *replica) start(ctx context.Context, env map[string]string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.launch(ctx, env)
}

func (r *replica) launch(ctx context.Context, env map[string]string) error {
	log, err := os.OpenFile(r.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	command := exec.Command(r.exe, "serve")
	variables := maps.Clone(r.base)
	maps.Copy(variables, env)
	command.Env = environment(variables)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the tests first
	if err := command.Start(); err != nil {
		return fmt.Errorf("start a replica: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait()
	}()
	r.command, r.ended = command, ended
	return r.awaitReady(ctx)
}

// environment is this process' without settings of the service, and variables.
func environment(variables map[string]string) []string {
	env := dixiecmd.Environ("E2E_")
	for name, value := range variables {
		env = append(env, name+"="+value)
	}
	return env
}

func (r *replica) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, errors.New("it is not ready in time"))
	defer cancel()
	for !ready(ctx, http.DefaultClient, r.url) {
		select {
		case <-time.After(readyInterval):
		case <-r.ended:
			return fmt.Errorf("the replica ended instead of serving:\n%s", tail(r.path))
		case <-ctx.Done():
			return fmt.Errorf("start a replica: %w:\n%s", context.Cause(ctx), tail(r.path))
		}
	}
	return nil
}

// ready reports whether a replica wants requests.
func ready(ctx context.Context, client *http.Client, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// restart ends the process with a signal and starts it with further variables,
// instead of those that it was given before. It returns the exit code, which is -1
// after a signal that killed it.
func (r *replica) restart(ctx context.Context, signal syscall.Signal, env map[string]string) (code int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	code, err = r.end(signal)
	if err != nil {
		return code, err
	}
	return code, r.launch(ctx, env)
}

// stop ends the process, if there is one, and returns its exit code.
func (r *replica) stop() (code int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end(syscall.SIGTERM)
}

func (r *replica) end(signal syscall.Signal) (code int, err error) {
	if r.command == nil {
		return 0, nil
	}
	_ = r.command.Process.Signal(signal) // fails when it has ended
	select {
	case <-r.ended:
	case <-time.After(stopTimeout):
		_ = r.command.Process.Kill()
		<-r.ended
		err = fmt.Errorf("a replica did not stop within %s of %s:\n%s", stopTimeout, signal, tail(r.path))
	}
	code = r.command.ProcessState.ExitCode()
	r.command = nil
	return code, err
}

// pid is the id of the process, 0 while there is none.
func (r *replica) pid() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.command == nil {
		return 0
	}
	return r.command.Process.Pid
}
