package main_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dixie/internal/natstest"
	"dixie/internal/pgtest"
)

// cluster is a PostgreSQL of its own, as roles belong to all of its databases.
type cluster struct {
	t      *testing.T
	server *pgtest.Server
}

// newCluster is one with a database app, whose owner deployer may create roles and is
// no superuser, as on hosted PostgreSQL.
func newCluster(t *testing.T) cluster {
	t.Helper()
	server, err := pgtest.Start(t.Context(), pgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	c := cluster{t, server}
	bootstrap := connect(t, server.URL("postgres"))
	for _, sql := range []string{
		`CREATE ROLE deployer LOGIN CREATEROLE PASSWORD '` + rolePassword + `'`, `CREATE DATABASE app OWNER deployer`,
		`CREATE ROLE modest LOGIN PASSWORD '` + rolePassword + `'`, `CREATE DATABASE other OWNER modest`,
	} {
		if _, err := bootstrap.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return c
}

// rolePassword is that of all roles; a server on this machine does not ask for it, and
// one in Docker does.
const rolePassword = "of-the-tests"

// as is the URL of the database app for a role.
func (c cluster) as(role string) string { return c.in("app", role) }

func (c cluster) in(database, role string) string {
	c.t.Helper()
	u, err := url.Parse(c.server.URL(database))
	if err != nil {
		c.t.Fatal(err)
	}
	u.User = url.UserPassword(role, rolePassword)
	return u.String()
}

// env are the variables of a command that connects as a role.
func (c cluster) env(role string) []string { return []string{"DATABASE_URL=" + c.as(role)} }

// run executes a statement as a role and returns the code of the error.
func (c cluster) run(role, sql string) string {
	c.t.Helper()
	conn, err := pgx.Connect(c.t.Context(), c.as(role))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(c.t.Context()))
	_, err = conn.Exec(c.t.Context(), sql)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused):
		return refused.Code
	}
	c.t.Fatalf("%s: %v", sql, err)
	return ""
}

// wantDenied fails unless a role may execute none of the statements.
func (c cluster) wantDenied(role string, statements ...string) {
	c.t.Helper()
	for _, sql := range statements {
		if code := c.run(role, sql); code != "42501" {
			c.t.Errorf("%s: %s: code %q, want 42501 (no privilege)", role, sql, code)
		}
	}
}

// against are statements with which history would be changed.
var against = []string{
	`UPDATE reputation_events SET event = '{}'`, `DELETE FROM reputation_events`, `TRUNCATE reputation_events`, `DROP TABLE reputation_events`,
	`ALTER TABLE reputation_events DISABLE TRIGGER ALL`, `ALTER TABLE reputation_events DROP COLUMN created_at`,
	`SET session_replication_role = replica`, `CREATE OR REPLACE FUNCTION reputation_event_id(event jsonb) RETURNS uuid LANGUAGE sql IMMUTABLE AS 'SELECT NULL::uuid'`,
	`DELETE FROM dixie_migrations`, `CREATE TRIGGER t AFTER INSERT ON reputation_events EXECUTE FUNCTION reputation_events_in_order()`,
}

// projected are the tables that are folded from the log.
var projected = []string{
	"reputation_aggregates", "reputation_task_cohorts", "reputation_collections", "reputation_cohort_members",
	"projection_checkpoints", "projection_failures", "projection_rebuilds", "publisher_agents",
}

// TestRoles: with the roles of `dixie migrate roles`, made by an owner that is no
// superuser, a server does all that it does, and nobody can do more than is said.
func TestRoles(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	modest := c.in("other", "modest")
	mustCLI(t, []string{"DATABASE_URL=" + modest}, "migrate", "up")
	if _, stderr, err := cli(t, []string{"DATABASE_URL=" + modest}, "migrate", "roles"); err == nil || !strings.Contains(stderr, "CREATEROLE") {
		t.Errorf("without the right to create roles: %v, %s", err, stderr)
	}
	if _, stderr, err := cli(t, c.env("deployer"), "migrate", "roles"); err == nil || !strings.Contains(stderr, "dixie migrate up") {
		t.Errorf("without a schema: %v, %s", err, stderr)
	}
	mustCLI(t, c.env("deployer"), "migrate", "up")
	for range 2 {
		mustCLI(t, c.env("deployer"), "migrate", "roles")
	}
	for role, groups := range map[string]string{
		"server": "dixie_append, dixie_project", "writer": "dixie_append", "projector": "dixie_project", "reader": "dixie_read",
	} {
		for _, sql := range []string{"CREATE ROLE " + role + " LOGIN PASSWORD '" + rolePassword + "'", "GRANT " + groups + " TO " + role} {
			if code := c.run("deployer", sql); code != "" {
				t.Fatalf("%s: code %s", sql, code)
			}
		}
	}
	if code := c.run("deployer", `CREATE ROLE program LOGIN PASSWORD '`+rolePassword+`'`); code != "" {
		t.Fatalf("code %s", code)
	}
	// Before the server and after a rebuild, which puts other tables in their places.
	c.checkWriter(1)
	c.checkServer()
	c.checkWriter(2)
	c.checkReader()
	c.checkProjector()
	c.checkWaiting()
	c.checkProgram()
	mustCLI(t, c.env("deployer"), "migrate", "roles")
	if got := mustCLI(t, c.env("deployer"), "migrate", "up"); !strings.Contains(got, "current") {
		t.Errorf("the owner cannot migrate any more: %s", got)
	}
	mustCLI(t, c.env("reader"), "verify")
}

// checkServer serves as a member of dixie_append and dixie_project.
func (c cluster) checkServer() {
	t := c.t
	t.Helper()
	member := newAccount(t)
	env, allowlist := gatewayEnv(t, member)
	created := mustCLI(t, nil, "apikey", "new", "--name", "judge", "--scopes", "append", "--allowlist-path", allowlist)
	nats := natstest.Start(t)
	env = append(env, c.env("server")[0], "NATS_URL="+nats.URL(), "DIXIE_NATS_PUBLISH=true", "DIXIE_SIWE_REQUIRE_SERVER_NONCE=true")
	one, two := serveFor(t, env...), serveFor(t, env...) // with somebody who stands by
	body := member.signIn(t, one.call("GET", "/api/auth/nonce", "").want(t, 200, "").Nonce)
	token := one.call("POST", "/api/auth/siwe", body).want(t, 200, "").Token
	two.call("POST", "/api/auth/siwe", body).want(t, 401, "message_replayed")
	bearer := []string{"Authorization", "Bearer " + token}
	event := func(n, status int) {
		t.Helper()
		one.call("POST", "/api/reputation/bear-1/events", fmt.Sprintf(
			`{"type":"quality_signal","event_id":"00000000-0000-4000-8000-%012d","agent_id":"bear-1","collection_id":"honey","timestamp":"2026-02-25T12:00:00Z","score":0.9}`, n),
			"Authorization", "Bearer "+keyMember.FindString(created)).want(t, status, "")
	}
	event(901, 201)
	event(901, 200)
	two.call("GET", "/api/reputation/bear-1?at_least=51&wait=30s", "", bearer...).want(t, 200, "")
	eventually(t, "the log is published", func() bool { return nats.Stored("DIXIE") >= 51 })
	for range 2 { // the second replaces what the first has made
		one.call("POST", "/api/admin/projections/all/rebuild", "", "X-Admin-Key", testAdminKey)
		eventually(t, "the rebuild has ended", func() bool {
			return strings.Contains(one.wholeAnswer("GET", "/api/admin/projections/all/rebuild", "", map[string]string{"X-Admin-Key": testAdminKey}), `"done"`)
		})
	}
	mustCLI(t, c.env("server"), "rebuild")
	event(902, 201)
	two.call("GET", "/api/reputation/bear-1?at_least=52&wait=30s", "", bearer...).want(t, 200, "")
	two.call("GET", "/api/reputation/bear-1?as_of=51", "", bearer...).want(t, 200, "")
	mustCLI(t, c.env("server"), "verify")
	mustCLI(t, c.env("server"), "publish", "--from", "1", "--nats-url", nats.URL())
	for _, s := range []*server{one, two} {
		if s.stop(); strings.Contains(s.log.String(), "permission denied") || strings.Contains(s.log.String(), "must be owner") {
			t.Errorf("the server lacks a right:\n%s", s.log)
		}
	}
	c.wantDenied("server", against...)
}

// checkWriter appends a second time after a first: what is there is told from what
// conflicts with it.
func (c cluster) checkWriter(turn int) {
	t := c.t
	t.Helper()
	path := file(t, "events.ndjson", history(31, 50, 5))
	_, told, err := cli(t, c.env("writer"), "import", path)
	if want := []string{"", "50 appended", "50 duplicates"}[turn]; err != nil || !strings.Contains(told, want) {
		t.Errorf("imported %q, %v; want %q", told, err, want)
	}
	c.wantDenied("writer", against...)
	for _, table := range append([]string{"signin_nonces"}, projected...) {
		c.wantDenied("writer", "SELECT FROM "+table, "INSERT INTO "+table+" DEFAULT VALUES", "DELETE FROM "+table)
	}
	c.wantDenied("writer", "CREATE TABLE t (n integer)", "SET ROLE dixie_project")
	if _, stderr, err := cli(t, c.env("writer"), "rebuild"); err == nil || !strings.Contains(stderr, "permission denied") {
		t.Errorf("rebuild: %v, %s", err, stderr)
	}
}

// checkReader runs all commands that change nothing, and some that would.
func (c cluster) checkReader() {
	t := c.t
	t.Helper()
	env := c.env("reader")
	for _, command := range [][]string{
		{"status"}, {"status", "--json"}, {"verify"}, {"verify", "--sample", "3"}, {"verify", "--nft", "bear-1"}, {"replay"}, {"replay", "--nft", "bear-1"},
		{"failures", "list"}, {"failures", "retry"}, {"migrate", "status"}, {"export", filepath.Join(t.TempDir(), "log.ndjson")},
	} {
		mustCLI(t, env, command...)
	}
	for _, role := range []string{"reader", "writer", "projector"} { // each of whom lacks what a server needs
		_, stderr, err := cli(t, append(c.env(role), "PORT=0"), "serve", "--dev")
		if err == nil || !strings.Contains(stderr, role) || !strings.Contains(stderr, "dixie_append and dixie_project") {
			t.Errorf("serving as %s: %v\n%s", role, err, stderr)
		}
	}
	c.wantDenied("reader", against...)
	c.wantDenied("reader", `INSERT INTO reputation_events (nft_id, event_type, event) VALUES ('a', 'b', '{}')`, "SELECT FROM signin_nonces",
		"CREATE TABLE t (n integer)", "SET ROLE dixie_project", "SET ROLE dixie_append")
	for _, table := range projected {
		if code := c.run("reader", "SELECT FROM "+table); code != "" {
			t.Errorf("%s cannot be read: code %s", table, code)
		}
		c.wantDenied("reader", "INSERT INTO "+table+" DEFAULT VALUES", "DELETE FROM "+table, "TRUNCATE "+table, "BEGIN; LOCK TABLE "+table+" IN EXCLUSIVE MODE")
	}
	events := file(t, "events.ndjson", history(32, 5, 5))
	for _, command := range [][]string{{"rebuild"}, {"import", events}, {"migrate", "roles"}} {
		if _, stderr, err := cli(t, env, command...); err == nil || !strings.Contains(stderr, "42501") {
			t.Errorf("%v: %v, %s", command, err, stderr)
		}
	}
}

// checkProjector: who projects cannot append.
func (c cluster) checkProjector() {
	c.t.Helper()
	mustCLI(c.t, c.env("projector"), "rebuild", "cohorts")
	mustCLI(c.t, c.env("projector"), "verify")
	c.wantDenied("projector", append(against, `INSERT INTO reputation_events (nft_id, event_type, event) VALUES ('a', 'b', '{}')`)...)
}

// checkWaiting: a rebuild tells for whom it waits, also when it is somebody of whose
// session it may see little.
func (c cluster) checkWaiting() {
	t := c.t
	t.Helper()
	tx, err := connect(t, c.as("reader")).Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), `SET application_name = 'analysis'; SELECT FROM reputation_aggregates`)
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, stderr, err := cli(t, c.env("projector"), "rebuild", "aggregates")
		if err != nil {
			err = fmt.Errorf("%w: %s", err, stderr)
		}
		ended <- err
	}()
	watcher := connect(t, c.as("reader"))
	eventually(t, "it tells for whom it waits", func() (told bool) {
		err := watcher.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM projection_rebuilds WHERE waits_for LIKE 'process % (analysis)')`).Scan(&told)
		return err == nil && told
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// checkProgram: another program that writes by SQL can be given less than dixie_append,
// as docs/operations.md says, and then can neither choose positions nor read events.
func (c cluster) checkProgram() {
	c.t.Helper()
	if code := c.run("deployer", `GRANT INSERT (nft_id, event_type, event), SELECT (position, created_at) ON reputation_events TO program`); code != "" {
		c.t.Fatalf("code %s", code)
	}
	if code := c.run("program", `INSERT INTO reputation_events (nft_id, event_type, event) VALUES ('a', 'b', '{}')`); code != "" {
		c.t.Errorf("a plain INSERT: code %s", code)
	}
	c.wantDenied("program", against...)
	c.wantDenied("program", "SELECT event FROM reputation_events", "SELECT FROM signin_nonces", "SELECT FROM reputation_aggregates",
		`INSERT INTO reputation_events (nft_id, event_type, event, position) VALUES ('a', 'b', '{}', 999)`,
		`INSERT INTO reputation_events (nft_id, event_type, event, created_at) VALUES ('a', 'b', '{}', now())`)
}
