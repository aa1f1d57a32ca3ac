package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/ory/dockertest/v3"
	dc "github.com/ory/dockertest/v3/docker"
)

const (
	imageName     = "postgres"
	imageTag      = "16-alpine"
	containerPort = "5432/tcp"
	sharedMemory  = 256 << 20
	pingTimeout   = 5 * time.Second
	execTimeout   = 30 * time.Second
)

// guardScript is all that the container itself runs. Its input is a connection
// of the test process, and when that ends the container does, with all in it.
// If the connection was never made it does not wait for its end.
const guardScript = `read -r -t 60 line || exit 1; cat >/dev/null; exit 0`

// interruptScript asks the server to end in an orderly way.
const interruptScript = `
lock=$PGDATA/postmaster.pid
[ -e "$lock" ] || exit 0
kill -INT "$(head -n 1 "$lock")"
`

// killScript stops the server first, so that it starts no more children. The
// lock file may be that of a server killed before.
const killScript = `
lock=$PGDATA/postmaster.pid
[ -e "$lock" ] || exit 0
pid=$(head -n 1 "$lock")
kill -STOP "$pid" || exit 0
all="$pid $(pgrep -P "$pid")"
kill -KILL $all
n=0
while kill -0 $all && [ $n -lt 100 ]; do n=$((n+1)); sleep 0.05; done
exit 0
`

// A dockerEngine runs containers.
type dockerEngine struct {
	client *dc.Client
	host   string // by which this machine reaches their ports
}

// findDocker returns the engine of DOCKER_HOST, of the usual socket, or of the
// docker command's context, if it answers.
func findDocker(ctx context.Context) (*dockerEngine, error) {
	e, err := connectDocker(ctx, "")
	if err == nil || os.Getenv("DOCKER_HOST") != "" {
		return e, err
	}
	if endpoint := contextEndpoint(ctx); endpoint != "" {
		if e, err := connectDocker(ctx, endpoint); err == nil {
			return e, nil
		}
	}
	return nil, err
}

// contextEndpoint is where the docker command finds its engine; Docker Desktop
// and rootless engines are not at the usual place. Empty if it cannot tell.
func contextEndpoint(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// connectDocker takes the environment's endpoint if the given one is empty.
func connectDocker(ctx context.Context, endpoint string) (*dockerEngine, error) {
	pool, err := dockertest.NewPool(endpoint)
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := pool.Client.PingWithContext(ctx); err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	return &dockerEngine{client: pool.Client, host: dockerHost(pool.Client.Endpoint())}, nil
}

// dockerHost is the machine in an engine's endpoint: this one for a socket.
func dockerHost(endpoint string) string {
	const local = "127.0.0.1"
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme == "unix" || u.Hostname() == "" || u.Hostname() == "localhost" {
		return local
	}
	return u.Hostname()
}

// A container is a PostgreSQL in Docker. The container runs guardScript, and the
// server is started in it, so that its port and its data outlive a killed
// server.
type container struct {
	docker   *dockerEngine
	opts     Options
	id       string
	password string
	address  string        // host:port of the server on this machine
	alive    io.Closer     // the container's input; closing it ends the container
	done     chan struct{} // closed when the last server has ended; nil before
	output   tail
}

// newContainer makes a container in which no server runs yet.
func newContainer(ctx context.Context, docker *dockerEngine, o Options) (*container, error) {
	if o.Dir != "" {
		return nil, fmt.Errorf("a server in Docker cannot keep its files in %s", o.Dir)
	}
	if err := docker.pull(ctx); err != nil {
		return nil, err
	}
	c := &container{docker: docker, opts: o, password: rand.Text()}
	if err := c.create(ctx); err != nil {
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.remove())
	}
	return c, nil
}

// pull fetches the image if the engine does not have it.
func (e *dockerEngine) pull(ctx context.Context) error {
	if _, err := e.client.InspectImage(imageName + ":" + imageTag); err == nil {
		return nil
	}
	o := dc.PullImageOptions{Repository: imageName, Tag: imageTag, Context: ctx}
	if err := e.client.PullImage(o, dc.AuthConfiguration{}); err != nil {
		return fmt.Errorf("pull image %s:%s: %w", imageName, imageTag, err)
	}
	return nil
}

func (c *container) create(ctx context.Context) error {
	created, err := c.docker.client.CreateContainer(dc.CreateContainerOptions{
		Context: ctx,
		Config: &dc.Config{
			Image:      imageName + ":" + imageTag,
			Entrypoint: []string{"sh", "-c", guardScript},
			Env: []string{
				"POSTGRES_PASSWORD=" + c.password,
				"POSTGRES_INITDB_ARGS=--no-sync --encoding=UTF8 --locale=C",
			},
			AttachStdin: true,
			OpenStdin:   true,
			StdinOnce:   true,
		},
		HostConfig: &dc.HostConfig{
			AutoRemove:   true,
			Init:         true, // reaps killed servers
			ShmSize:      sharedMemory,
			PortBindings: map[dc.Port][]dc.PortBinding{containerPort: {{HostIP: c.bindAddress()}}},
		},
	})
	if err != nil {
		return fmt.Errorf("create a container: %w", err)
	}
	c.id = created.ID
	return nil
}

// bindAddress is open to the network only if the engine is on another machine.
func (c *container) bindAddress() string {
	if ip := net.ParseIP(c.docker.host); ip != nil && ip.IsLoopback() {
		return c.docker.host
	}
	return "0.0.0.0"
}

// start runs the container, holding its input open.
func (c *container) start(ctx context.Context) error {
	in, err := c.attach(ctx)
	if err != nil {
		return err
	}
	c.alive = in
	if err := c.docker.client.StartContainerWithContext(c.id, nil, ctx); err != nil {
		return fmt.Errorf("start the container: %w", err)
	}
	if _, err := fmt.Fprintln(in); err != nil {
		return fmt.Errorf("write to the container: %w", err)
	}
	running, err := c.docker.client.InspectContainerWithContext(c.id, ctx)
	if err != nil {
		return fmt.Errorf("inspect the container: %w", err)
	}
	return c.findPort(running)
}

func (c *container) findPort(running *dc.Container) error {
	if running.NetworkSettings == nil || len(running.NetworkSettings.Ports[containerPort]) == 0 {
		return fmt.Errorf("the container has no port for %s", containerPort)
	}
	port := running.NetworkSettings.Ports[containerPort][0].HostPort
	c.address = net.JoinHostPort(c.docker.host, port)
	return nil
}

// attach connects to the input of a container that does not run yet.
func (c *container) attach(ctx context.Context) (*io.PipeWriter, error) {
	r, w := io.Pipe()
	success := make(chan struct{})
	_, err := c.docker.client.AttachToContainerNonBlocking(dc.AttachToContainerOptions{
		Container: c.id, InputStream: r, Stdin: true, Stream: true, Success: success,
	})
	if err != nil {
		return nil, fmt.Errorf("attach to the container: %w", err)
	}
	select {
	case <-success:
		success <- struct{}{}
		return w, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("attach to the container: %w", context.Cause(ctx))
	}
}

func (c *container) url(dbname string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, c.password), Host: c.address,
		Path: "/" + dbname, RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (c *container) launch(ctx context.Context) error {
	cmd := append([]string{"docker-entrypoint.sh", "postgres"}, c.opts.arguments()...)
	_, done, err := c.exec(ctx, cmd, &c.output)
	if err != nil {
		return err
	}
	c.done = done
	return nil
}

// exec starts a command in the container. The channel is closed when it and all
// that hold its output have ended.
func (c *container) exec(ctx context.Context, cmd []string, out io.Writer) (string, chan struct{}, error) {
	e, err := c.docker.client.CreateExec(dc.CreateExecOptions{
		Context: ctx, Container: c.id, Cmd: cmd, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return "", nil, fmt.Errorf("run %s in the container: %w", cmd[0], err)
	}
	stream, err := c.docker.client.StartExecNonBlocking(e.ID, dc.StartExecOptions{OutputStream: out, ErrorStream: out})
	if err != nil {
		return "", nil, fmt.Errorf("run %s in the container: %w", cmd[0], err)
	}
	done := make(chan struct{})
	go func() {
		_ = stream.Wait()
		close(done)
	}()
	return e.ID, done, nil
}

// script runs a shell script in the container.
func (c *container) script(ctx context.Context, script string) error {
	var out tail
	id, done, err := c.exec(ctx, []string{"sh", "-c", script}, &out)
	if err != nil {
		return err
	}
	select {
	case <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	result, err := c.docker.client.InspectExec(id)
	if err != nil {
		return fmt.Errorf("inspect a script in the container: %w", err)
	}
	if result.ExitCode != 0 {
		return fmt.Errorf("a script in the container failed with status %d: %s", result.ExitCode, out.String())
	}
	return nil
}

func (c *container) running() bool {
	select {
	case <-c.done:
		return false
	default:
		return c.done != nil
	}
}

func (c *container) shutdown(ctx context.Context) error {
	if !c.running() {
		return nil
	}
	if err := c.script(ctx, interruptScript); err != nil {
		return err
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *container) kill() error {
	if !c.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), execTimeout)
	defer cancel()
	if err := c.script(ctx, killScript); err != nil {
		return err
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return errors.New("the server in the container does not end")
	}
}

// remove ends the container by closing its input, which would be enough, and
// then waits until it is gone.
func (c *container) remove() error {
	if c.alive != nil {
		_ = c.alive.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), execTimeout)
	defer cancel()
	for {
		err := c.docker.client.RemoveContainer(dc.RemoveContainerOptions{ID: c.id, Force: true, RemoveVolumes: true, Context: ctx})
		var gone *dc.NoSuchContainer
		if errors.As(err, &gone) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("container %s of a stopped PostgreSQL is still there; remove it: %w", c.id, err)
		case <-time.After(pollInterval * 10):
		}
	}
}

func (c *container) program(name string) (string, error) {
	return "", fmt.Errorf("%s is in the container of the server, and not on this machine", name)
}

func (c *container) exited() <-chan struct{} { return c.done }

func (c *container) log() string { return strings.TrimSpace(c.output.String()) }

// A tail keeps the last that was written to it. It is safe for concurrent use.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	t.b = t.b[max(0, len(t.b)-logTail):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
