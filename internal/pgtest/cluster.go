package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	superuser  = "postgres"
	socketPort = "5432"  // only part of the socket's name
	maxSocket  = 103     // bytes of a socket's path that every system takes
	logTail    = 4 << 10 // bytes of the log in an error message

	memoryDir    = "/dev/shm"
	memoryNeeded = 1 << 30 // bytes; in a container there are often only 64 MB
)

// A cluster is a PostgreSQL of this machine's binaries, in a directory of its
// own and reachable only through a socket there; one that is like in production,
// through TCP of this machine as well, with a password that only this process knows.
type cluster struct {
	bin      string // directory of the binaries
	dir      string
	opts     Options
	port     string              // of TCP; empty for none
	password string              // for TCP
	owner    *syscall.Credential // nil: this process's user
	guard    *watchdog
	proc     *process // the last one launched; nil before
}

// newCluster makes a cluster that does not run yet.
func newCluster(ctx context.Context, bin string, o Options) (*cluster, error) {
	owner, err := clusterOwner()
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(owner, o)
	if err != nil {
		return nil, err
	}
	guard, err := startWatchdog(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	c := &cluster{bin: bin, dir: dir, opts: o, owner: owner, guard: guard, password: rand.Text()}
	if o.Durable {
		c.port, err = freePort(ctx)
	}
	if err == nil {
		err = c.initialise(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.remove())
	}
	return c, nil
}

// freePort is a port that nobody listens at.
func freePort(ctx context.Context) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a port for PostgreSQL: %w", err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, err
}

// clusterOwner is the user that the server runs as. PostgreSQL refuses to run
// as root.
func clusterOwner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL refuses to run as root, and there is no user postgres or nobody: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// makeDir makes the cluster's directory.
func makeDir(owner *syscall.Credential, o Options) (string, error) {
	dir, err := os.MkdirTemp(parentDir(o), "dixie-pg-")
	if err != nil {
		return "", fmt.Errorf("make the cluster's directory: %w", err)
	}
	if owner == nil {
		return dir, nil
	}
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		return "", errors.Join(fmt.Errorf("give the cluster's directory to its user: %w", err), os.Remove(dir))
	}
	return dir, nil
}

// parentDir is the one that was asked for, or TMPDIR if that is set and a socket's name in it is not too long.
// Otherwise a server that need not be durable gets a directory in memory if
// there is one: it makes a database many times as fast as a disk.
func parentDir(o Options) string {
	if o.Dir != "" {
		return o.Dir
	}
	if os.Getenv("TMPDIR") == "" && !o.Durable && freeBytes(memoryDir) >= memoryNeeded {
		return memoryDir
	}
	if len(os.TempDir())+len("/dixie-pg-4294967295/.s.PGSQL.5432") > maxSocket {
		return "/tmp"
	}
	return os.TempDir()
}

func (c *cluster) initialise(ctx context.Context) error {
	args := []string{"-D", c.data(), "-U", superuser, "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions",
		"--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile=" + filepath.Join(c.dir, "password")}
	if !c.opts.Durable {
		args = append(args, "--wal-segsize=1") // a smaller directory
	}
	if err := c.writePassword(); err != nil {
		return err
	}
	p, err := c.spawn("initdb", args...)
	if err != nil {
		return err
	}
	if err := p.wait(ctx); err != nil {
		p.signal(syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("initdb: %w\n%s", err, c.log())
	}
	return nil
}

// writePassword writes the file that initdb reads the password from.
func (c *cluster) writePassword() error {
	name := filepath.Join(c.dir, "password")
	err := os.WriteFile(name, []byte(c.password), 0o600)
	if err == nil && c.owner != nil {
		err = os.Chown(name, int(c.owner.Uid), int(c.owner.Gid))
	}
	if err != nil {
		return fmt.Errorf("write the cluster's password: %w", err)
	}
	return nil
}

func (c *cluster) data() string    { return filepath.Join(c.dir, "data") }
func (c *cluster) logFile() string { return filepath.Join(c.dir, "log") }

func (c *cluster) url(dbname string) string {
	q := url.Values{"host": {c.dir}, "port": {socketPort}, "sslmode": {"disable"}}
	user := url.User(superuser)
	if c.port != "" {
		q.Set("host", "127.0.0.1")
		q.Set("port", c.port)
		user = url.UserPassword(superuser, c.password)
	}
	u := url.URL{Scheme: "postgres", User: user, Path: "/" + dbname, RawQuery: q.Encode()}
	return u.String()
}

func (c *cluster) launch(context.Context) error {
	// Shared memory in files of the directory, as a killed server would leave it
	// anywhere else.
	args := []string{"-D", c.data(), "-k", c.dir, "-c", "dynamic_shared_memory_type=mmap"}
	if c.port == "" {
		args = append(args, "-p", socketPort, "-c", "listen_addresses=")
	} else {
		args = append(args, "-p", c.port, "-c", "listen_addresses=127.0.0.1")
	}
	p, err := c.spawn("postgres", append(args, c.opts.arguments()...)...)
	if err != nil {
		return err
	}
	c.proc = p
	return nil
}

// spawn starts a binary as the cluster's owner in a session of its own, where
// the Ctrl-C that ends the tests does not reach it, and tells the watchdog.
func (c *cluster) spawn(name string, args ...string) (*process, error) {
	log, err := os.OpenFile(c.logFile(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the cluster's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	cmd.Env = serverEnv(os.Environ())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.owner}
	p, err := c.guard.start(cmd)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// serverEnv is env without what would change the server: PGDATA, PGPORT, the
// language of its messages.
func serverEnv(env []string) []string {
	kept := []string{"LC_ALL=C"}
	for _, kv := range env {
		if strings.HasPrefix(kv, "PG") || strings.HasPrefix(kv, "LC_") || strings.HasPrefix(kv, "LANG") {
			continue
		}
		kept = append(kept, kv)
	}
	return kept
}

// shutdown disconnects the clients and lets the server write a checkpoint.
func (c *cluster) shutdown(ctx context.Context) error {
	if c.proc == nil {
		return nil
	}
	c.proc.signal(syscall.SIGINT)
	select {
	case <-c.proc.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *cluster) kill() error {
	if c.proc == nil {
		return nil
	}
	return c.proc.killTree()
}

// remove leaves the work to the watchdog, as the end of the process would.
func (c *cluster) remove() error {
	if err := c.guard.finish(); err != nil {
		return err
	}
	if _, err := os.Lstat(c.dir); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s of a stopped PostgreSQL is still there; delete it", c.dir)
	}
	return nil
}

func (c *cluster) exited() <-chan struct{} {
	if c.proc == nil {
		return nil
	}
	return c.proc.done
}

func (c *cluster) log() string {
	b, err := os.ReadFile(c.logFile())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-logTail):]))
}

// program follows links, as a directory of links need not have all programs.
func (c *cluster) program(name string) (string, error) {
	dirs := []string{c.bin}
	if real, err := filepath.EvalSymlinks(filepath.Join(c.bin, "initdb")); err == nil {
		dirs = append(dirs, filepath.Dir(real))
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("PostgreSQL in %s has no %s", strings.Join(dirs, ", "), name)
}
