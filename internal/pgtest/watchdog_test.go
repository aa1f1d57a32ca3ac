package pgtest

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const goneTimeout = time.Minute

// needBinaries returns false where this machine's own PostgreSQL cannot be
// tested because there is none: the other tests then run on another.
func needBinaries(t *testing.T) bool {
	t.Helper()
	_, err := machine().binaries(t.Context())
	if err != nil {
		t.Logf("nothing to test: %v", err)
	}
	return err == nil
}

// publicTempDir is one that the server's user can enter, with a short name.
func publicTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startChild runs this test binary as a program that starts a server in tmp.
func startChild(t *testing.T, tmp string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVariable+"=1", "TMPDIR="+tmp)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(goneTimeout)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not true: %s", goneTimeout, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// family lists a server's processes.
func family(t *testing.T, dir string) []int {
	t.Helper()
	lock, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(lock), "\n")
	postmaster, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	all, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	pids := []int{postmaster}
	for pid, info := range all {
		if info.parent == postmaster {
			pids = append(pids, pid)
		}
	}
	return pids
}

func anyAlive(t *testing.T, pids []int) bool {
	t.Helper()
	all, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if info, ok := all[pid]; ok && !info.zombie {
			return true
		}
	}
	return false
}

func TestServerEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	if !needBinaries(t) {
		return
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			cmd, out := startChild(t, publicTempDir(t))
			if !out.Scan() || !exists(out.Text()) {
				t.Fatalf("the child printed %q (%v), want a directory", out.Text(), out.Err())
			}
			dir := out.Text()
			keepBusy(t, dir)
			pids := family(t, dir)

			// The whole process group, as Ctrl-C in a terminal does.
			if err := syscall.Kill(-cmd.Process.Pid, sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			eventually(t, "the directory is gone", func() bool { return !exists(dir) })
			eventually(t, "the server's processes are gone", func() bool { return !anyAlive(t, pids) })
		})
	}
}

// keepBusy leaves a session in the middle of a long statement.
func keepBusy(t *testing.T, dir string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), (&cluster{dir: dir}).url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = conn.Exec(context.WithoutCancel(t.Context()), `SELECT pg_sleep(600)`)
	}()
	t.Cleanup(func() { <-done })
}

func TestNothingIsLeftOfAnInterruptedStart(t *testing.T) {
	t.Parallel()
	if !needBinaries(t) {
		return
	}
	tmp := publicTempDir(t)
	clusters := func() []string {
		dirs, err := filepath.Glob(filepath.Join(tmp, "dixie-pg-*"))
		if err != nil {
			t.Fatal(err)
		}
		return dirs
	}
	cmd, _ := startChild(t, tmp)
	eventually(t, "initdb is writing", func() bool {
		dirs := clusters()
		return len(dirs) == 1 && exists(filepath.Join(dirs[0], "data", "base"))
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the directory is gone", func() bool { return len(clusters()) == 0 })
	time.Sleep(500 * time.Millisecond)
	if left := clusters(); len(left) > 0 {
		t.Errorf("it came back: %v", left)
	}
}

func TestEndOfContextEndsStart(t *testing.T) {
	t.Parallel()
	if !needBinaries(t) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Start(ctx, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Start = %v, want DeadlineExceeded", err)
	}
}
