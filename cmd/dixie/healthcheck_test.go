package main_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/internal/pgtest"
)

// healthy runs dixie healthcheck with the port of a server as its variable, as in
// the container of the server.
func healthy(t *testing.T, port string, args ...string) (ok bool, stderr string) {
	t.Helper()
	_, stderr, err := cli(t, []string{"DIXIE_PORT=" + port}, append([]string{"healthcheck"}, args...)...)
	return err == nil, stderr
}

func (s *server) port() string {
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
	return port
}

// TestHealthcheck: a server is healthy as long as it can serve: finn being away
// does not matter, and its database does.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	database := pgtest.EmptyURL(t)
	s := serve(t, []string{"DATABASE_URL=" + database, "FINN_URL=http://127.0.0.1:1"})
	var health struct {
		Services struct {
			Finn struct{ Status string } `json:"loa_finn"`
		}
	}
	s.get("/api/health", http.StatusOK, &health)
	if ok, stderr := healthy(t, s.port()); !ok || health.Services.Finn.Status != "unreachable" {
		t.Errorf("with finn %s: %t %s", health.Services.Finn.Status, ok, stderr)
	}

	setAway(t, database, true)
	ok, stderr := healthy(t, s.port())
	if ok || !strings.Contains(stderr, "503") {
		t.Errorf("without its database: %t %s", ok, stderr)
	}
	if ok, stderr := healthy(t, s.port(), "--live"); !ok {
		t.Errorf("the process of a server without its database: %s", stderr)
	}

	setAway(t, database, false)
	for start := time.Now(); ; {
		if ok, stderr = healthy(t, s.port()); ok {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("the database is back: %s", stderr)
		}
	}
	s.stop()
	for _, args := range [][]string{nil, {"--live"}} {
		if ok, _ := healthy(t, s.port(), args...); ok {
			t.Errorf("%v: healthy without a server", args)
		}
	}
}

// setAway shuts everybody out of a database, or lets them in again.
func setAway(t *testing.T, url string, away bool) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	name := pgx.Identifier{config.Database}.Sanitize()
	config.Database = "postgres"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	allowed := "true"
	if away {
		allowed = "false"
	}
	for _, sql := range []string{
		"ALTER DATABASE " + name + " ALLOW_CONNECTIONS " + allowed,
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE NOT " + allowed + " AND datname = '" + strings.Trim(name, `"`) + "'",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHealthcheckIsStrict: only 200 is healthy, within the time, from the server
// itself and not from one that it points to.
func TestHealthcheckIsStrict(t *testing.T) {
	t.Parallel()
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ready/readyz":
			if r.URL.RawQuery != "exclude=lag" {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/moved/readyz":
			http.Redirect(w, r, "/ready/readyz?exclude=lag", http.StatusFound)
		case "/slow/readyz":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer answers.Close()
	for path, want := range map[string]bool{"/ready": true, "/ready/": true, "/moved": false, "/slow": false, "/nowhere": false} {
		_, stderr, err := cli(t, nil, "healthcheck", "--url", answers.URL+path, "--timeout", "500ms")
		if (err == nil) != want {
			t.Errorf("%s: %v %s, want healthy %t", path, err, stderr, want)
		}
	}
	for _, url := range []string{"localhost:3001", "ftp://localhost", "http://", "://"} {
		if _, stderr, err := cli(t, nil, "healthcheck", "--url", url); err == nil || !strings.Contains(stderr, "url must be one such as") {
			t.Errorf("%s: %v %s", url, err, stderr)
		}
	}
}
