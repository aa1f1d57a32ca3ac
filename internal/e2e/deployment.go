package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sync/errgroup"

	"dixie/internal/pgtest"
)

const (
	replicas     = 2
	startup      = 5 * time.Minute // for builds that begin with nothing
	natsPatience = 20 * time.Second
	// site is where wallets sign in to.
	site = "https://dixie.example"
)

// deployment is all that runs. Fields are set by start and not changed.
type deployment struct {
	dir      string
	postgres *pgtest.Server
	nats     *server.Server
	finn     string // its URL
	replicas []*replica
	url      string // of the balancer
	controls string // URL of the control

	adminKey, finnToken string

	stops []func() error // in the order in which things were started
}

// start starts everything, or leaves nothing behind.
func start(ctx context.Context, o options) (_ *deployment, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startup, errors.New("starting took too long"))
	defer cancel()
	d := &deployment{adminKey: rand.Text(), finnToken: rand.Text()}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop(io.Discard, true))
		}
	}()
	if d.dir, err = os.MkdirTemp("", "dixie-e2e-"); err != nil {
		return nil, err
	}
	d.onStop(func() error { return os.RemoveAll(d.dir) })
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return d.prepare(ctx, o.race) },
		d.startNATS, d.startFinn, d.startReplicas, d.startBalancer,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	d.controls, err = d.listen(d.control())
	return d, err
}

func (d *deployment) onStop(f func() error) { d.stops = append(d.stops, f) }

// prepare builds the commands and starts PostgreSQL, at the same time.
func (d *deployment) prepare(ctx context.Context, race bool) error {
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return d.build(ctx, race) })
	work.Go(func() (err error) {
		d.postgres, err = pgtest.Start(ctx, pgtest.Options{})
		return err
	})
	err := work.Wait()
	if d.postgres != nil {
		d.onStop(func() error { return d.postgres.Stop(context.Background()) })
	}
	return err
}

// build builds the service and the stand-in for finn.
func (d *deployment) build(ctx context.Context, race bool) error {
	args := []string{"build", "-o", d.dir + "/"}
	if race {
		args = append(args, "-race")
	}
	out, err := exec.CommandContext(ctx, "go", append(args, "dixie/cmd/dixie", "dixie/cmd/fakefinn")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// exe is a command that was built.
func (d *deployment) exe(name string) string { return filepath.Join(d.dir, name) }

func (d *deployment) startNATS(context.Context) (err error) {
	d.nats, err = server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: filepath.Join(d.dir, "nats"),
		NoLog: true, NoSigs: true,
	})
	if err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	d.nats.Start()
	d.onStop(func() error {
		d.nats.Shutdown()
		d.nats.WaitForShutdown()
		return nil
	})
	if !d.nats.ReadyForConnections(natsPatience) {
		return errors.New("NATS does not start")
	}
	return nil
}

// startReplicas migrates the database and starts the replicas at the same time.
func (d *deployment) startReplicas(ctx context.Context) error {
	env, err := d.settings(ctx)
	if err != nil {
		return err
	}
	if _, err := d.command(ctx, env, "migrate", "up"); err != nil {
		return err
	}
	for i := range replicas {
		r, err := newReplica(d.exe("dixie"), d.dir, fmt.Sprintf("replica-%d", i+1), env)
		if err != nil {
			return err
		}
		d.replicas = append(d.replicas, r)
	}
	d.onStop(d.stopReplicas)
	starting, ctx := errgroup.WithContext(ctx)
	for _, r := range d.replicas {
		starting.Go(func() error { return r.start(ctx, nil) })
	}
	return starting.Wait()
}

// settings are the variables of all replicas. finn's time limits are short, so
// that the tests need not wait for long ones.
func (d *deployment) settings(ctx context.Context) (map[string]string, error) {
	file := filepath.Join(d.dir, "key.pem")
	if _, err := d.command(ctx, nil, "keygen", "--out", file); err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	allowlist := filepath.Join(d.dir, "allowlist")
	if err := os.Mkdir(allowlist, 0o700); err != nil {
		return nil, err
	}
	return map[string]string{
		"DATABASE_URL":          d.postgres.URL("postgres"),
		"DIXIE_JWT_PRIVATE_KEY": string(pem),
		"DIXIE_ADMIN_KEY":       d.adminKey,
		"DIXIE_ALLOWLIST_PATH":  filepath.Join(allowlist, "allowlist.json"),
		"DIXIE_ALLOWLIST_POLL":  "100ms",
		"DIXIE_SIWE_DOMAINS":    site,
		"DIXIE_TRUSTED_PROXIES": "127.0.0.0/8",
		"DIXIE_RATE_LIMIT_RPM":  "0",
		"FINN_URL":              d.finn,
		"FINN_AUTH_TOKEN":       d.finnToken,
		"FINN_TIMEOUT":          "1s",
		"NATS_URL":              d.nats.ClientURL(), // which alone switches nothing on
	}, nil
}

// command runs a command of the service's and returns what it printed.
func (d *deployment) command(ctx context.Context, env map[string]string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, d.exe("dixie"), args...)
	c.Env = environment(env)
	var complaint strings.Builder
	c.Stderr = &complaint
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("dixie %s: %w\n%s", strings.Join(args, " "), err, complaint.String())
	}
	return string(out), nil
}

// stopReplicas fails when a replica does not stop as it should.
func (d *deployment) stopReplicas() error {
	problems := make([]error, len(d.replicas))
	var stopping sync.WaitGroup
	for i, r := range d.replicas {
		stopping.Go(func() {
			code, err := r.stop()
			if err == nil && code != 0 {
				err = fmt.Errorf("replica %d stopped with exit code %d:\n%s", i+1, code, tail(r.path))
			}
			problems[i] = err
		})
	}
	stopping.Wait()
	return errors.Join(problems...)
}

func (d *deployment) startBalancer(ctx context.Context) error {
	b, err := newBalancer(d.replicaURLs())
	if err != nil {
		return err
	}
	life, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { b.run(life) })
	d.onStop(func() error {
		cancel()
		running.Wait()
		return nil
	})
	if err := b.wait(ctx); err != nil {
		return err
	}
	d.url, err = d.listen(b)
	return err
}

func (d *deployment) replicaURLs() (urls []string) {
	for _, r := range d.replicas {
		urls = append(urls, r.url)
	}
	return urls
}

// listen serves a handler on this machine and returns its URL.
func (d *deployment) listen(handler http.Handler) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	web := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = web.Serve(listener) }) // until it is closed
	d.onStop(func() error {
		err := web.Close()
		serving.Wait()
		return err
	})
	return "http://" + listener.Addr().String(), nil
}

// variables are what the tests are told of the deployment.
func (d *deployment) variables() map[string]string {
	return map[string]string{
		"INTEGRATION_TEST_URL": d.url,
		"E2E_ADMIN_KEY":        d.adminKey,
		"E2E_SITE":             site,
		"E2E_REPLICA_URLS":     strings.Join(d.replicaURLs(), ","),
		"E2E_CONTROL_URL":      d.controls,
		"E2E_NATS_URL":         d.nats.ClientURL(),
		"E2E_FINN_URL":         d.finn,
	}
}

// stop ends everything, the last that was started first, and looks into the logs
// of the replicas. It tells their ends when something has failed.
func (d *deployment) stop(errs io.Writer, failed bool) error {
	var problems []error
	last := len(d.stops) - 1
	for i := last; i > 0; i-- {
		problems = append(problems, d.stops[i]())
	}
	for i, r := range d.replicas {
		found := suspicious(r.path)
		if found != "" {
			problems = append(problems, fmt.Errorf("replica %d logged what it never should:\n%s", i+1, found))
		}
		if failed || found != "" {
			fmt.Fprintf(errs, "e2e: the end of the log of replica %d:\n%s\n", i+1, tail(r.path))
		}
	}
	if last >= 0 {
		problems = append(problems, d.stops[0]()) // the directory, with the logs
	}
	return errors.Join(problems...)
}
