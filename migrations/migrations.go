// Package migrations holds the schema of Dixie's database and applies it.
//
// Each step is a file NNN_name.sql of this directory. A file can also be run by
// hand with psql: it records itself in the table dixie_migrations at its end,
// and [Up], [Status] and [Check] then take it for applied.
//
// 011_roles.sql is none of them: [Roles] runs it, as often as it is asked to.
package migrations

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed *.sql
var files embed.FS

// Key 2 of Dixie's advisory locks: one process migrates at a time.
// Key 1 orders the writers of the log, see the SQL.
const (
	lockClass = 1684633705 // "dixi" in ASCII
	lockKey   = 2
)

const (
	minServerVersion = 140000 // server_version_num of PostgreSQL 14
	unlockTimeout    = 5 * time.Second

	insufficientPrivilege = "42501" // SQLSTATE
)

// rolesFile makes the roles; it is not a step of the schema.
const rolesFile = "011_roles.sql"

var fileName = regexp.MustCompile(`^([0-9]{3})_([a-z0-9_]+)\.sql$`)

// A Migration is one step of the schema.
type Migration struct {
	Version   int
	Name      string
	AppliedAt time.Time // zero: pending
}

// String returns the name of the step's file without its suffix.
func (m Migration) String() string { return fmt.Sprintf("%03d_%s", m.Version, m.Name) }

// A DB answers queries: a *pgx.Conn, a pgx.Tx or a *pgxpool.Pool.
type DB interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// An OutdatedError says that the database lacks migrations that this program
// needs.
type OutdatedError struct {
	Pending []Migration // sorted, never empty
}

func (e *OutdatedError) Error() string {
	names := make([]string, len(e.Pending))
	for i, m := range e.Pending {
		names[i] = m.String()
	}
	return fmt.Sprintf("the database schema is out of date: pending %s; run `dixie migrate up`",
		strings.Join(names, ", "))
}

// Up applies the pending migrations in order, each in a transaction of its own,
// and returns those that it applied: none and no error when the database is
// current. With an error, those that it names were applied and stay.
//
// Programs that call Up at the same time wait for each other, each until its
// ctx ends: while it works, Up holds an advisory lock of the session. It must
// therefore not be given a connection through a pooler that shares sessions
// between transactions. When ctx ends during a migration, that migration is
// rolled back and conn is closed.
//
// Up uses conn alone; it must not be in a transaction.
func Up(ctx context.Context, conn *pgx.Conn) ([]Migration, error) {
	steps, err := load(files)
	if err != nil {
		return nil, err
	}
	return up(ctx, conn, steps)
}

// Status returns all migrations that this program knows, sorted by version.
// On an empty database all of them are pending. Versions that a newer release
// applied are not listed. It is safe for concurrent use if db is.
func Status(ctx context.Context, db DB) ([]Migration, error) {
	steps, err := load(files)
	if err != nil {
		return nil, err
	}
	return status(ctx, db, steps)
}

// Check returns nil when no migration is pending, and otherwise an
// [*OutdatedError]; any other error means that the database could not be asked.
// A database that a newer release has migrated is fine: during a rolling
// upgrade the previous release keeps running on it. It is safe for concurrent
// use if db is.
func Check(ctx context.Context, db DB) error {
	steps, err := load(files)
	if err != nil {
		return err
	}
	return check(ctx, db, steps)
}

// ErrRights says that who has logged in may not do what a server does.
var ErrRights = errors.New("too few rights in the database")

// CheckRights returns nil when who has logged in may append events and project them,
// as far as a server needs both, and otherwise an error that matches [ErrRights]; any
// other error means that the database could not be asked. It is safe for concurrent
// use if db is.
func CheckRights(ctx context.Context, db DB) error {
	rows, err := db.Query(ctx, `
		SELECT current_user::text, has_any_column_privilege('reputation_events', 'INSERT'),
		       has_table_privilege('projection_checkpoints', 'UPDATE')`)
	if err != nil {
		return fmt.Errorf("read the rights: %w", err)
	}
	type rights struct {
		Login           string
		Append, Project bool
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[rights])
	if err != nil {
		return fmt.Errorf("read the rights: %w", err)
	}
	if found.Append && found.Project {
		return nil
	}
	return fmt.Errorf("%w: %s may append: %t, may project: %t; make the roles with dixie migrate roles, and grant it dixie_append and dixie_project",
		ErrRights, found.Login, found.Append, found.Project)
}

// Roles makes the roles dixie_append, dixie_project and dixie_read, and grants them
// what they may do in this database, all or nothing; 011_roles.sql says what that is.
// It needs a current schema, the owner of the tables, and the right to create roles
// where they do not exist yet. It changes nothing when it is repeated, and is to be
// repeated when [Up] has applied something. Programs that call it at the same time
// wait for each other, and for Up. The demands on conn are those of Up.
func Roles(ctx context.Context, conn *pgx.Conn) error {
	sql, err := fs.ReadFile(files, rolesFile)
	if err != nil {
		return fmt.Errorf("read %s: %w", rolesFile, err)
	}
	if err := Check(ctx, conn); err != nil {
		return err
	}
	return withLock(ctx, conn, func() error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			_, err := tx.Conn().PgConn().Exec(ctx, string(sql)).ReadAll()
			return rolesError(err)
		})
	})
}

// rolesError says what can be done about a lack of rights.
func rolesError(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == insufficientPrivilege {
		return fmt.Errorf("make the roles: %w; connect as the owner of the tables, with CREATEROLE or as a superuser", err)
	}
	if err != nil {
		return fmt.Errorf("make the roles: %w", err)
	}
	return nil
}

// A step is a migration with its SQL.
type step struct {
	Migration
	sql string
}

// load reads the steps in fsys, sorted by version.
func load(fsys fs.FS) ([]step, error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	steps := make([]step, 0, len(names))
	for _, name := range names {
		if name == rolesFile {
			continue
		}
		s, err := loadStep(fsys, name)
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.Version, b.Version) })
	for i := 1; i < len(steps); i++ {
		if steps[i].Version == steps[i-1].Version {
			return nil, fmt.Errorf("migrations %s and %s have the same version; give one of them another", steps[i-1], steps[i])
		}
	}
	return steps, nil
}

func loadStep(fsys fs.FS, name string) (step, error) {
	m := fileName.FindStringSubmatch(name)
	if m == nil {
		return step{}, fmt.Errorf("migration %s: the name must look like 005_reputation.sql", name)
	}
	version, err := strconv.Atoi(m[1])
	if err != nil {
		return step{}, fmt.Errorf("migration %s: %w", name, err)
	}
	sql, err := fs.ReadFile(fsys, name)
	if err != nil {
		return step{}, fmt.Errorf("read migration %s: %w", name, err)
	}
	return step{Migration: Migration{Version: version, Name: m[2]}, sql: string(sql)}, nil
}

func status(ctx context.Context, db DB, steps []step) ([]Migration, error) {
	applied, err := readApplied(ctx, db)
	if err != nil {
		return nil, err
	}
	all := make([]Migration, len(steps))
	for i, s := range steps {
		all[i] = s.Migration
		all[i].AppliedAt = applied[s.Version]
	}
	return all, nil
}

func check(ctx context.Context, db DB, steps []step) error {
	all, err := status(ctx, db, steps)
	if err != nil {
		return err
	}
	if pending := onlyPending(all); len(pending) > 0 {
		return &OutdatedError{Pending: pending}
	}
	return nil
}

func onlyPending(all []Migration) []Migration {
	return slices.DeleteFunc(slices.Clone(all), func(m Migration) bool { return !m.AppliedAt.IsZero() })
}

// readApplied returns when each recorded version was applied. A database
// without the table has none. It asks first, as reading a missing table would
// spoil a transaction of the caller.
func readApplied(ctx context.Context, db DB) (map[int]time.Time, error) {
	exists, err := queryOne[bool](ctx, db, `SELECT to_regclass('dixie_migrations') IS NOT NULL`)
	if err != nil {
		return nil, fmt.Errorf("look for table dixie_migrations: %w", err)
	}
	if !exists {
		return nil, nil
	}
	rows, err := db.Query(ctx, `SELECT version, applied_at FROM dixie_migrations`)
	if err != nil {
		return nil, fmt.Errorf("read table dixie_migrations: %w", err)
	}
	applied := map[int]time.Time{}
	var version int
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&version, &at}, func() error {
		applied[version] = at
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read table dixie_migrations: %w", err)
	}
	return applied, nil
}

func queryOne[T any](ctx context.Context, db DB, sql string) (T, error) {
	rows, err := db.Query(ctx, sql)
	if err != nil {
		var zero T
		return zero, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
}

// up looks without the lock first: a start with nothing to do must not wait for
// another program's migration.
func up(ctx context.Context, conn *pgx.Conn, steps []step) ([]Migration, error) {
	var outdated *OutdatedError
	if err := check(ctx, conn, steps); !errors.As(err, &outdated) {
		return nil, err
	}
	if err := checkServer(ctx, conn); err != nil {
		return nil, err
	}
	var applied []Migration
	err := withLock(ctx, conn, func() (err error) {
		applied, err = applyPending(ctx, conn, steps)
		return err
	})
	return applied, err
}

func checkServer(ctx context.Context, conn *pgx.Conn) error {
	version, err := queryOne[int](ctx, conn, `SELECT current_setting('server_version_num')::int`)
	if err != nil {
		return fmt.Errorf("read the server's version: %w", err)
	}
	return checkServerVersion(version)
}

func checkServerVersion(num int) error {
	if num >= minServerVersion {
		return nil
	}
	return fmt.Errorf("the server is PostgreSQL %d, but the schema needs %d or newer; upgrade the server",
		num/10000, minServerVersion/10000)
}

// withLock runs f while conn's session holds the migration lock. The lock is
// released also when ctx has ended; the session's end releases it if the
// connection broke.
func withLock(ctx context.Context, conn *pgx.Conn, f func() error) error {
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1, $2)`, lockClass, lockKey); err != nil {
		return fmt.Errorf("wait for the migration lock: %w", err)
	}
	err := f()
	if conn.IsClosed() {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
	defer cancel()
	if _, unlockErr := conn.Exec(ctx, `SELECT pg_advisory_unlock($1, $2)`, lockClass, lockKey); unlockErr != nil {
		return errors.Join(err, fmt.Errorf("release the migration lock: %w", unlockErr))
	}
	return err
}

// applyPending reads the state again: under the lock, what another program has
// applied meanwhile is no longer pending.
func applyPending(ctx context.Context, conn *pgx.Conn, steps []step) ([]Migration, error) {
	all, err := status(ctx, conn, steps)
	if err != nil {
		return nil, err
	}
	var applied []Migration
	for i, m := range all {
		if !m.AppliedAt.IsZero() {
			continue
		}
		m, err := apply(ctx, conn, steps[i])
		if err != nil {
			return applied, fmt.Errorf("migration %s failed: %w", steps[i], err)
		}
		applied = append(applied, m)
	}
	return applied, nil
}

// apply runs one step in a transaction.
func apply(ctx context.Context, conn *pgx.Conn, s step) (Migration, error) {
	m := s.Migration
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Many statements in one message: only the simple protocol takes them.
		if _, err := tx.Conn().PgConn().Exec(ctx, s.sql).ReadAll(); err != nil {
			return err
		}
		const record = `INSERT INTO dixie_migrations (version, name) VALUES ($1, $2) ON CONFLICT DO NOTHING`
		if _, err := tx.Exec(ctx, record, m.Version, m.Name); err != nil {
			return fmt.Errorf("record it in dixie_migrations: %w", err)
		}
		const read = `SELECT applied_at FROM dixie_migrations WHERE version = $1`
		return tx.QueryRow(ctx, read, m.Version).Scan(&m.AppliedAt)
	})
	return m, err
}
