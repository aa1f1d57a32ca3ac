// Command e2e starts the whole service on this machine, without Docker, and runs
// the end-to-end tests against it:
//
//	go run ./internal/e2e [flags] [arguments of go test...]
//
// That is PostgreSQL, NATS, the stand-in for finn, two replicas of the real
// binary, built from the tree, and a load balancer before them. Everything ends
// with the tests, or with Ctrl-C.
//
//	go run ./internal/e2e -run TestChat
//	go run ./internal/e2e -hold     # starts, prints the variables of the tests, and waits
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

const (
	// testTimeout bounds the tests, and testGrace what they may take to end when they
	// are told to.
	testTimeout = "5m"
	testGrace   = 20 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop() // and not before: a second signal would leave processes behind
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	race bool     // build the service and the tests with the race detector
	hold bool     // wait instead of testing
	test []string // further arguments of go test
}

func parse(args []string, errs io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("e2e", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.BoolVar(&o.race, "race", false, "build the service and the tests with the race detector")
	flags.BoolVar(&o.hold, "hold", false, "start everything, print the variables of the tests, and wait for a signal")
	run := flags.String("run", "", "tests to run, as go test takes it")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if *run != "" {
		o.test = append(o.test, "-run", *run)
	}
	o.test = append(o.test, flags.Args()...)
	return o, nil
}

// run returns when everything that it started has ended.
func run(ctx context.Context, args []string, out, errs io.Writer) (err error) {
	o, err := parse(args, errs)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	started := time.Now()
	d, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop(errs, err != nil && ctx.Err() == nil)) }()
	fmt.Fprintf(errs, "e2e: everything runs after %s\n", time.Since(started).Round(time.Millisecond))
	if o.hold {
		return hold(ctx, d, out)
	}
	return test(ctx, d, o, out, errs)
}

// hold prints what the tests need, to be pasted, and waits.
func hold(ctx context.Context, d *deployment, out io.Writer) error {
	variables := d.variables()
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		fmt.Fprintf(out, "export %s=%q\n", name, variables[name])
	}
	fmt.Fprintln(out, "go test dixie/e2e -count=1 -v")
	<-ctx.Done()
	return nil
}

// test runs the tests. Those in a terminal are not told of Ctrl-C by it: they are
// told by ctx, before what they test ends.
func test(ctx context.Context, d *deployment, o options, out, errs io.Writer) error {
	args := []string{"test", "dixie/e2e", "-count=1", "-v", "-timeout", testTimeout}
	if o.race {
		args = append(args, "-race")
	}
	command := exec.CommandContext(ctx, "go", append(args, o.test...)...)
	command.Env = os.Environ()
	for name, value := range d.variables() {
		command.Env = append(command.Env, name+"="+value)
	}
	command.Stdout, command.Stderr = out, errs
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGINT) }
	command.WaitDelay = testGrace
	err := command.Run()
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err != nil {
		return fmt.Errorf("the tests: %w", err)
	}
	return nil
}
