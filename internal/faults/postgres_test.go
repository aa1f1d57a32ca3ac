package faults_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/internal/pgtest"
)

const (
	serviceRole     = "dixie_service"
	servicePassword = "of-the-harness"

	// maxConnections is few enough to take them all.
	maxConnections = 70
)

// postgres is a cluster of a world's own.
type postgres struct {
	sync.Mutex // held by the fault that stops it
	*pgtest.Server
}

// startPostgres starts a cluster that ends with the test.
func startPostgres(t testing.TB, options pgtest.Options) *postgres {
	t.Helper()
	options.Settings = map[string]string{
		"max_prepared_transactions": "10",
		"max_connections":           fmt.Sprint(maxConnections),
		"restart_after_crash":       "on",
	}
	server, err := pgtest.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p := &postgres{Server: server}
	p.exec(t, "postgres", fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s'`, serviceRole, servicePassword))
	return p
}

// createDatabase makes a database that belongs to the service.
func (p *postgres) createDatabase(t testing.TB, name string) {
	t.Helper()
	p.exec(t, "postgres", fmt.Sprintf(`CREATE DATABASE %s OWNER %s`, name, serviceRole))
}

// url is where the superuser finds a database.
func (p *postgres) url(database string) string { return p.URL(database) }

// serviceURL is where the service finds a database, at another address if one is given.
func (p *postgres) serviceURL(database, address string) string {
	u, err := url.Parse(p.URL(database))
	if err != nil {
		panic(err) // pgtest made it
	}
	u.User = url.UserPassword(serviceRole, servicePassword)
	if address != "" {
		u.Host, u.RawQuery = address, "sslmode=disable"
	}
	return u.String()
}

// exec runs statements as the superuser, and again while the server is away.
func (p *postgres) exec(t testing.TB, database string, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		err := p.try(ctx, database, statements...)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("%s: %v", strings.Join(statements, "; "), err)
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// settle runs a statement that cannot run twice until another says that it has.
func (p *postgres) settle(t testing.TB, database, settled, statement string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		conn := p.connect(t, database)
		if conn == nil {
			return
		}
		done, err := false, error(nil)
		if err = conn.QueryRow(context.Background(), settled).Scan(&done); err == nil && !done {
			_, err = conn.Exec(context.Background(), statement)
			done = err == nil
		}
		closeConn(conn)
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: %v", statement, err)
			return
		}
	}
}

// try runs statements as the superuser, once.
func (p *postgres) try(ctx context.Context, database string, statements ...string) error {
	conn, err := pgx.Connect(ctx, p.url(database))
	if err != nil {
		return err
	}
	defer closeConn(conn)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// connect is a connection of the superuser's that ends with the test, or nil when the
// server is away for long.
func (p *postgres) connect(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, p.url(database))
		if err == nil {
			return conn
		}
		select {
		case <-ctx.Done():
			t.Errorf("connect: %v", err)
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}
