package faults_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// diskSize is that of the small file system, in bytes.
const diskSize = 900 << 20

// mountDisk makes a small file system in memory for a test, and returns where it is.
// The error says why there can be none.
func mountDisk(t testing.TB) (string, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		return "", errors.New("only root can mount a file system that is small enough to fill up")
	}
	dir, err := os.MkdirTemp("/tmp", "dixie-disk-") // a short path, for the socket in it
	if err != nil {
		return "", err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", diskSize)); err != nil {
		return "", errors.Join(fmt.Errorf("mount a small file system: %w", err), os.Remove(dir))
	}
	finish, err := guardDisk(dir)
	if err != nil {
		return "", errors.Join(err, syscall.Unmount(dir, syscall.MNT_DETACH), os.Remove(dir))
	}
	t.Cleanup(finish)
	return dir, nil
}

// guardDisk removes the file system when the test ends, however it ends: the child's
// input ends with this process.
func guardDisk(dir string) (finish func(), err error) {
	guard := exec.Command("sh", "-c", `trap '' HUP INT TERM; cat >/dev/null; umount -l "$1"; rmdir "$1"`, "dixie-disk-guard", dir)
	guard.Dir = "/"
	guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := guard.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := guard.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = pipe.Close()
		_ = guard.Wait()
	}, nil
}

// fillDisk leaves PostgreSQL hardly any room.
func fillDisk(w *world, random *rand.Rand) (heal func()) {
	w.postgres.Lock()
	ballast := filepath.Join(w.disk, "ballast")
	if err := fill(ballast, random.Int64N(1<<20)); err != nil {
		w.errorf("fill the disk: %v", err)
	}
	return func() {
		defer w.postgres.Unlock()
		if err := os.Remove(ballast); err != nil {
			w.errorf("make room: %v", err)
		}
		w.revivePostgres()
	}
}

// fill writes a file as long as there is room, and then leaves some.
func fill(path string, leave int64) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	size, err := io.Copy(file, zeros{})
	if !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("after %d bytes: %w", size, err)
	}
	return file.Truncate(max(0, size-leave))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// revivePostgres starts PostgreSQL again if it has given up: without room for its
// journal it ends itself.
func (w *world) revivePostgres() {
	for range 20 {
		if w.postgres.try(w.t.Context(), "postgres", `SELECT 1`) == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.restartPostgres()
}
