package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
)

// startFinn starts the stand-in for finn, which asks for a token.
func (d *deployment) startFinn(ctx context.Context) error {
	finn := exec.Command(d.exe("fakefinn"), "--addr", "127.0.0.1:0")
	finn.Env = environment(map[string]string{"FINN_AUTH_TOKEN": d.finnToken})
	finn.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the tests first
	stdout, err := finn.StdoutPipe()
	if err != nil {
		return err
	}
	if err := finn.Start(); err != nil {
		return fmt.Errorf("start fakefinn: %w", err)
	}
	said := make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		said <- line
		_, _ = io.Copy(io.Discard, stdout)
		_ = finn.Wait()
	}()
	d.onStop(func() error {
		_ = finn.Process.Signal(syscall.SIGTERM) // fails when it has ended
		<-ended
		return nil
	})
	select {
	case line := <-said:
		address, ok := strings.CutPrefix(strings.TrimSpace(line), "fakefinn is ready at ")
		if !ok {
			return fmt.Errorf("fakefinn does not start: it said %q", line)
		}
		d.finn = "http://" + address
		return nil
	case <-ctx.Done():
		return fmt.Errorf("fakefinn does not start: %w", errors.Join(ctx.Err(), context.Cause(ctx)))
	}
}
