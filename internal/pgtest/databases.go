package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dixie/migrations"
)

const (
	databasePrefix = "dixie_test_"
	ownerLock      = 1684633716 // class of the advisory locks that name a database's owner
	objectInUse    = "55006"    // SQLSTATE
	retryInterval  = 20 * time.Millisecond
)

// databases makes and drops the databases of this process's tests on one
// server. Its methods are safe for concurrent use.
//
// Their names hold a number of this process, dixie_test_<number>_<what>, on
// which it holds an advisory lock as long as it lives. On a server that outlives
// it, the next process finds by that what a killed one left.
type databases struct {
	url    func(dbname string) string
	number int32

	mu       sync.Mutex // one CREATE or DROP DATABASE at a time
	admin    *pgx.Conn
	adminURL string
	template string // "" until the first clone
	created  int
}

// open finds a server or starts one.
func open(ctx context.Context, f finder) (*databases, error) {
	given, noURL := f.url()
	if noURL == nil {
		dbs, err := openURL(ctx, given)
		if err != nil {
			return nil, fmt.Errorf("%s is set, so it is used; correct it, or unset it to use PostgreSQL of this machine or Docker: %w", urlVariable, err)
		}
		return dbs, nil
	}
	server, err := start(ctx, Options{}, f)
	var unavailable *UnavailableError
	if errors.As(err, &unavailable) {
		unavailable.URL = noURL
	}
	if err != nil {
		return nil, err
	}
	return newDatabases(ctx, server.URL("postgres"), server.URL)
}

func openURL(ctx context.Context, given string) (*databases, error) {
	dbs, err := newDatabases(ctx, given, func(dbname string) string { return withDatabase(given, dbname) })
	if err != nil {
		return nil, err
	}
	if err := dbs.sweep(ctx); err != nil {
		return nil, err
	}
	return dbs, nil
}

// withDatabase returns the URL, or keyword/value string, of another database of
// the same server.
func withDatabase(given, dbname string) string {
	u, err := url.Parse(given)
	if err != nil || u.Scheme == "" {
		return given + " dbname=" + dbname
	}
	u.Path, u.RawPath = "/"+dbname, ""
	q := u.Query()
	q.Del("dbname")
	q.Del("database")
	u.RawQuery = q.Encode()
	return u.String()
}

func newDatabases(ctx context.Context, adminURL string, url func(string) string) (*databases, error) {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	d := &databases{
		url:      url,
		adminURL: adminURL,
		number:   int32(binary.BigEndian.Uint32(random[:]) >> 1),
	}
	if _, err := d.connection(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// clone makes a migrated database and returns its name.
func (d *databases) clone(ctx context.Context) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.makeTemplate(ctx); err != nil {
		return "", fmt.Errorf("make the template of migrated databases: %w", err)
	}
	return d.createFrom(ctx, d.template)
}

// create makes an empty database and returns its name.
func (d *databases) create(ctx context.Context) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.createFrom(ctx, "template0")
}

// drop drops a database although clients are connected to it.
func (d *databases) drop(ctx context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.exec(ctx, fmt.Sprintf(`DROP DATABASE IF EXISTS %s WITH (FORCE)`, name))
}

func (d *databases) makeTemplate(ctx context.Context) error {
	if d.template != "" {
		return nil
	}
	name, err := d.createFrom(ctx, "template0")
	if err != nil {
		return err
	}
	if err := migrate(ctx, d.url(name)); err != nil {
		return errors.Join(err, d.exec(ctx, `DROP DATABASE `+name))
	}
	// Nobody can be connected to it while it is copied.
	if err := d.exec(ctx, fmt.Sprintf(`ALTER DATABASE %s ALLOW_CONNECTIONS false`, name)); err != nil {
		return err
	}
	d.template = name
	return nil
}

func migrate(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = migrations.Up(ctx, conn)
	return err
}

// createFrom makes a database.
func (d *databases) createFrom(ctx context.Context, template string) (string, error) {
	d.created++
	name := fmt.Sprintf("%s%d_%d", databasePrefix, d.number, d.created)
	return name, retryInUse(ctx, func() error {
		return d.exec(ctx, fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s`, name, template))
	})
}

// retryInUse calls create again while the template is in use: for a moment by
// the session that migrated it, which ends after its client has hung up, or on a
// shared server by anybody.
func retryInUse(ctx context.Context, create func() error) error {
	for {
		err := create()
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != objectInUse {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryInterval):
		}
	}
}

func (d *databases) exec(ctx context.Context, sql string) error {
	conn, err := d.connection(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// connection connects again when the last connection broke, as it does when a
// statement's ctx ends.
func (d *databases) connection(ctx context.Context) (*pgx.Conn, error) {
	if d.admin != nil && !d.admin.IsClosed() {
		return d.admin, nil
	}
	conn, err := pgx.Connect(ctx, d.adminURL)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock_shared($1, $2)`, ownerLock, d.number); err != nil {
		return nil, errors.Join(fmt.Errorf("lock this process's number: %w", err), conn.Close(ctx))
	}
	d.admin = conn
	return conn, nil
}

// sweep drops the databases of processes that have ended.
func (d *databases) sweep(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	conn, err := d.connection(ctx)
	if err != nil {
		return err
	}
	const mine = `SELECT datname FROM pg_database
		WHERE starts_with(datname, $1) AND pg_get_userbyid(datdba) = current_user`
	rows, err := conn.Query(ctx, mine, databasePrefix)
	if err != nil {
		return fmt.Errorf("list databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list databases: %w", err)
	}
	for _, name := range names {
		if err := d.sweepOne(ctx, conn, name); err != nil {
			return err
		}
	}
	return nil
}

func (d *databases) sweepOne(ctx context.Context, conn *pgx.Conn, name string) error {
	number, ok := ownerOf(name)
	if !ok || number == d.number {
		return nil
	}
	var ended bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1, $2)`, ownerLock, number).Scan(&ended); err != nil {
		return fmt.Errorf("ask for the owner of database %s: %w", name, err)
	}
	if !ended {
		return nil
	}
	err := d.exec(ctx, fmt.Sprintf(`DROP DATABASE IF EXISTS %s WITH (FORCE)`, name))
	_, unlockErr := conn.Exec(ctx, `SELECT pg_advisory_unlock($1, $2)`, ownerLock, number)
	return errors.Join(err, unlockErr)
}

// ownerOf returns the number of the process in a database's name.
func ownerOf(name string) (int32, bool) {
	rest, ok := strings.CutPrefix(name, databasePrefix)
	if !ok {
		return 0, false
	}
	number, _, ok := strings.Cut(rest, "_")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(number, 10, 32)
	return int32(n), err == nil
}
