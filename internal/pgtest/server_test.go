package pgtest

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func startServer(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return s
}

func connectTo(t *testing.T, s *Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func query[T any](t *testing.T, conn *pgx.Conn, sql string) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestKilledServerKeepsWhatWasCommitted(t *testing.T) {
	t.Parallel()
	checkKillAndRestart(t, startServer(t, Options{}))
}

// checkKillAndRestart kills a server amid writers and checks that each row whose
// commit was acknowledged is there when it runs again.
func checkKillAndRestart(t *testing.T, s *Server) {
	t.Helper()
	execute(t, connectTo(t, s), `CREATE TABLE rows (n int)`)
	const writers = 4
	written := make([]int, writers)
	var wg sync.WaitGroup
	for w := range writers {
		conn := connectTo(t, s)
		wg.Go(func() { written[w] = writeUntilItBreaks(t.Context(), conn) })
	}
	time.Sleep(200 * time.Millisecond)
	if err := s.Kill(); err != nil {
		t.Fatalf("Kill: %v", err)
	}
	wg.Wait()
	if _, err := pgx.Connect(t.Context(), s.URL("postgres")); err == nil {
		t.Error("a killed server answers")
	}
	if err := s.Kill(); err != nil {
		t.Errorf("Kill of a killed server: %v", err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatalf("Restart: %v", err)
	}
	checkWritten(t, s, written)
}

// checkWritten allows one row more for each writer: committed, but not
// acknowledged.
func checkWritten(t *testing.T, s *Server, written []int) {
	t.Helper()
	total := 0
	for w, n := range written {
		if n == 0 {
			t.Errorf("writer %d wrote nothing", w)
		}
		total += n
	}
	if n := query[int](t, connectTo(t, s), `SELECT count(*) FROM rows`); n < total || n > total+len(written) {
		t.Errorf("%d rows after the crash, want %d and at most %d more", n, total, len(written))
	}
}

func writeUntilItBreaks(ctx context.Context, conn *pgx.Conn) int {
	for n := 0; ; n++ {
		if _, err := conn.Exec(ctx, `INSERT INTO rows VALUES ($1)`, n); err != nil {
			return n
		}
	}
}

// TestServer follows a durable server through its life.
func TestServer(t *testing.T) {
	t.Parallel()
	s := startServer(t, Options{Durable: true, Settings: map[string]string{"work_mem": "7MB", "application_name": "it's a 'name'"}})
	checkSettings(t, s)
	checkRestart(t, s)
	checkStop(t, s)
}

func checkSettings(t *testing.T, s *Server) {
	t.Helper()
	conn := connectTo(t, s)
	for name, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
		"max_connections": "400", "work_mem": "7MB", "application_name": "it's a 'name'",
	} {
		if got := query[string](t, conn, `SHOW `+name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func checkRestart(t *testing.T, s *Server) {
	t.Helper()
	execute(t, connectTo(t, s), `CREATE TABLE kept AS SELECT 42 AS n`)
	before := s.URL("postgres")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := s.URL("postgres"); after != before {
		t.Errorf("the URL changed from %s to %s", before, after)
	}
	if n := query[int](t, connectTo(t, s), `SELECT n FROM kept`); n != 42 {
		t.Errorf("n = %d", n)
	}
}

func checkStop(t *testing.T, s *Server) {
	t.Helper()
	for _, time := range []string{"first", "second"} {
		if err := s.Stop(t.Context()); err != nil {
			t.Errorf("%s Stop: %v", time, err)
		}
	}
	if _, err := pgx.Connect(t.Context(), s.URL("postgres")); err == nil {
		t.Error("a stopped server answers")
	}
	if err := s.Kill(); err != nil {
		t.Errorf("Kill of a stopped server: %v", err)
	}
	if err := s.Restart(t.Context()); err == nil {
		t.Error("a stopped server was restarted")
	}
}

func TestBadSettingIsExplained(t *testing.T) {
	t.Parallel()
	if !needBinaries(t) {
		return
	}
	_, err := Start(t.Context(), Options{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("error = %v, want what the server logged", err)
	}
}

// TestOwnDirectory: a server keeps its files where it is told to, and says where the
// programs of its version are.
func TestOwnDirectory(t *testing.T) {
	t.Parallel()
	if !needBinaries(t) {
		return
	}
	dir, err := os.MkdirTemp("", "dixie-own-") // a short path, for the socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, Options{Dir: dir})
	if data := query[string](t, connectTo(t, s), `SHOW data_directory`); !strings.HasPrefix(data, dir) {
		t.Errorf("the data is in %s, not in %s", data, dir)
	}
	program, err := s.Program("psql")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "-Atc", "SELECT 42", s.URL("postgres")).CombinedOutput(); err != nil || string(out) != "42\n" {
		t.Errorf("psql: %v: %s", err, out)
	}
	if path, err := s.Program("no_such_program"); err == nil {
		t.Errorf("a program that does not exist is at %s", path)
	}
}
