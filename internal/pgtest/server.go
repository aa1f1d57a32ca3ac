package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options say what kind of server [Start] starts. The zero value is a fast one
// that loses its data in a crash of the machine, though not in [Server.Kill].
type Options struct {
	// Durable makes the server keep what it has committed through a crash of the
	// machine, as one in production does: fsync, synchronous_commit and
	// full_page_writes are on, and its files are on disk, in TMPDIR. It is reached
	// through TCP, as one in production is. For benchmarks.
	Durable bool

	// Dir is a directory for the server's files, such as a file system that is to be
	// filled up. This package chooses one when it is empty. It needs PostgreSQL of this
	// machine: a server in Docker keeps its files in the container, and cannot be
	// started with it.
	Dir string

	// Settings are server parameters, by name, as in postgresql.conf. They
	// override those of this package. Nil sets none.
	Settings map[string]string
}

// A Server is a PostgreSQL of this process alone. It ends with the process,
// however that ends. Its methods are safe for concurrent use.
type Server struct {
	eng engine

	mu      sync.Mutex // serialises Stop, Kill and Restart
	stopped bool
}

// An engine runs a server in one way. Its methods are called one at a time,
// except url, which may be called at any time.
type engine interface {
	url(dbname string) string
	// launch starts the server process; wait for it with awaitReady.
	launch(ctx context.Context) error
	// shutdown ends the server process in an orderly way; no error if none runs.
	shutdown(ctx context.Context) error
	// kill ends all processes of the server at once; no error if none runs.
	kill() error
	// remove ends the server and deletes all that it left.
	remove() error
	// exited is closed when the process of the last launch has ended; nil if the
	// engine cannot tell.
	exited() <-chan struct{}
	// log is the end of the server's log, for error messages.
	log() string
	// program is the path of a program of the server's version.
	program(name string) (string, error)
}

const (
	stopTimeout  = 20 * time.Second // for an orderly end, then it is killed
	pollInterval = 10 * time.Millisecond
)

// Start starts a server and returns when it answers. It uses PostgreSQL of this
// machine, else Docker, and never TEST_DATABASE_URL, which names a server that
// is not its own to kill. The error is an [*UnavailableError] when there is
// neither. When ctx ends before the server answers, nothing is left of it; the
// end of ctx later has no effect.
func Start(ctx context.Context, o Options) (*Server, error) {
	return start(ctx, o, machine())
}

func start(ctx context.Context, o Options, f finder) (*Server, error) {
	bin, noBinaries := f.binaries(ctx)
	if noBinaries == nil {
		s, err := run(ctx, func() (engine, error) { return newCluster(ctx, bin, o) })
		if err == nil || ctx.Err() != nil {
			return s, err
		}
		noBinaries = err
	}
	docker, noDocker := f.docker(ctx)
	if noDocker == nil {
		s, err := run(ctx, func() (engine, error) { return newContainer(ctx, docker, o) })
		if err == nil || ctx.Err() != nil {
			return s, err
		}
		noDocker = err
	}
	return nil, &UnavailableError{Binaries: noBinaries, Docker: noDocker}
}

func run(ctx context.Context, create func() (engine, error)) (*Server, error) {
	eng, err := create()
	if err != nil {
		return nil, err
	}
	s := &Server{eng: eng}
	if err := s.launch(ctx); err != nil {
		return nil, errors.Join(err, eng.remove())
	}
	return s, nil
}

// URL returns the address of a database of the server, for pgx, psql and child
// processes. It stays the same when the server is started again. The database
// "postgres" always exists.
func (s *Server) URL(dbname string) string { return s.eng.url(dbname) }

// Program is the path of a program that comes with the server, such as pg_dump. The
// error says that there is none on this machine: the server runs in Docker.
func (s *Server) Program(name string) (string, error) { return s.eng.program(name) }

// Stop ends the server in an orderly way and deletes it. When ctx ends first,
// or it takes too long, the server is killed; it is gone in any case unless
// Stop returns an error. A second Stop does nothing.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	return errors.Join(s.shutdown(ctx), s.eng.remove())
}

// Kill ends all processes of the server with SIGKILL, as a crash would, and
// returns when they are gone. The data stays; [Server.Restart] recovers it.
// It does nothing when the server does not run.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.eng.kill()
}

// Restart starts the server again, after an orderly end if it runs, and returns
// when it answers. The error tells what the server logged when it does not
// come up. A stopped server cannot be restarted.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("this PostgreSQL was stopped and deleted; start another")
	}
	if err := s.shutdown(ctx); err != nil {
		return err
	}
	return s.launch(ctx)
}

// shutdown ends the server's processes, by force if need be.
func (s *Server) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := s.eng.shutdown(ctx); err != nil {
		return s.eng.kill()
	}
	return nil
}

func (s *Server) launch(ctx context.Context) error {
	if err := s.eng.launch(ctx); err != nil {
		return err
	}
	if err := s.awaitReady(ctx); err != nil {
		return fmt.Errorf("PostgreSQL did not start: %w\n%s", err, s.eng.log())
	}
	return nil
}

// awaitReady returns when the server answers a query.
func (s *Server) awaitReady(ctx context.Context) error {
	for {
		err := ping(ctx, s.URL("postgres"))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; the last attempt: %w", context.Cause(ctx), err)
		case <-s.eng.exited():
			return errors.New("its process ended")
		case <-time.After(pollInterval):
		}
	}
}

func ping(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.Ping(ctx)
}

// arguments are the server's command line settings: one that is set later wins.
func (o Options) arguments() []string {
	settings := map[string]string{
		"max_connections": "400",
		"timezone":        "UTC",
		"log_timezone":    "UTC",
	}
	if !o.Durable {
		maps.Copy(settings, map[string]string{
			// Only fsync is off: without synchronous_commit or full_page_writes,
			// Kill would lose what was committed.
			"fsync":           "off",
			"wal_level":       "minimal",
			"max_wal_senders": "0",
			"max_wal_size":    "256MB",
			"shared_buffers":  "64MB",
		})
	}
	maps.Copy(settings, o.Settings)
	var args []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}
