package pgtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// watchdogScript waits for the end of its input, whose only writer is the test
// process, and then ends the cluster in the directory $1 and deletes it. A line
// of the input is the process that runs now, an empty one says that none does.
//
// The removal is tried again, as an initdb that was interrupted can still be
// writing. A server that was killed leaves its lock file, with the id of a shared
// memory segment that nobody else would free.
const watchdogScript = `
trap '' HUP INT TERM
pid=
while read -r line; do pid=$line; done
lock=$1/data/postmaster.pid
if [ -n "$pid" ]; then
	kill -QUIT "$pid"
	n=0
	while kill -0 "$pid" && [ -e "$lock" ] && [ $n -lt 150 ]; do n=$((n+1)); sleep 0.05; done
	kill -KILL "$pid"
fi
if [ -e "$lock" ]; then
	set -- "$1" $(sed -n 7p "$lock")
	[ -n "$3" ] && ipcrm -m "$3"
fi
n=0
while rm -rf "$1"; [ -e "$1" ] && [ $n -lt 50 ]; do n=$((n+1)); sleep 0.1; done
`

// A watchdog is a child that cleans up after this process, however this process
// ends: also after SIGKILL the system closes the pipe between them.
type watchdog struct {
	cmd    *exec.Cmd
	pipe   io.WriteCloser
	finish func() error // ends the cluster and waits until it is deleted
}

func startWatchdog(dir string) (*watchdog, error) {
	cmd := exec.Command("sh", "-c", watchdogScript, "dixie-pg-watchdog", dir)
	cmd.Dir = "/"
	// A session of its own, as Ctrl-C must end the tests first. No output:
	// go test waits for whoever holds that of the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	w := &watchdog{cmd: cmd, pipe: pipe}
	w.finish = sync.OnceValue(w.end)
	return w, nil
}

// end does not mind the script's exit status: what counts is what it left.
func (w *watchdog) end() error {
	if err := w.pipe.Close(); err != nil {
		return fmt.Errorf("tell the watchdog to finish: %w", err)
	}
	_ = w.cmd.Wait()
	return nil
}

// start starts the cluster's process under the watchdog's eyes. One runs at a
// time.
func (w *watchdog) start(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{proc: cmd.Process, done: make(chan struct{})}
	_, err := fmt.Fprintln(w.pipe, cmd.Process.Pid)
	// This goroutine also keeps the pipe from being collected, and thereby
	// closed, while the process runs.
	go func() {
		p.err = cmd.Wait()
		_, _ = fmt.Fprintln(w.pipe)
		close(p.done)
	}()
	if err != nil {
		p.signal(syscall.SIGKILL)
		<-p.done
		return nil, fmt.Errorf("the watchdog is gone: %w", err)
	}
	return p, nil
}

// A process is a child that is waited for.
type process struct {
	proc *os.Process
	done chan struct{} // closed when it has ended
	err  error         // how it ended; valid when done is closed
}

// signal does nothing when the process has ended.
func (p *process) signal(sig os.Signal) { _ = p.proc.Signal(sig) }

func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
