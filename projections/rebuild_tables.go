package projections

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// ObstacleError says that a rebuild cannot exchange a table without losing or
// breaking something that others have attached to it.
type ObstacleError struct {
	Table string
	// Obstacles are descriptions such as "rule _RETURN on view totals".
	Obstacles []string
}

func (e *ObstacleError) Error() string {
	return fmt.Sprintf("a rebuild replaces the table %s, which these would not survive: %s; remove them, and create them again after the rebuild",
		e.Table, strings.Join(e.Obstacles, "; "))
}

// A pair is a live table and the one beside it that is to take its place.
type pair struct {
	schema, name string
}

func (p pair) live() string   { return pgx.Identifier{p.schema, p.name}.Sanitize() }
func (p pair) shadow() string { return pgx.Identifier{p.schema, p.name + "_rebuild"}.Sanitize() }

// findPair finds the table that the live statements mean by a name.
func findPair(ctx context.Context, conn *pgx.Conn, name string) (pair, error) {
	p := pair{name: name}
	err := conn.QueryRow(ctx, `
		SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1::text::regclass`,
		name).Scan(&p.schema)
	return p, unavailable("find the table "+name, err)
}

// check refuses a table to which something is attached that would not come along.
// Everything is refused that is not known to.
func (p pair) check(ctx context.Context, q querier) error {
	obstacles, err := texts(ctx, q, `
		WITH live AS (SELECT c.*, t.typarray FROM pg_class AS c JOIN pg_type AS t ON t.oid = c.reltype WHERE c.oid = $1::text::regclass)
		SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid)
		  FROM live, pg_depend AS d
		 WHERE (d.refclassid = 'pg_class'::regclass AND d.refobjid = live.oid OR
		        d.refclassid = 'pg_type'::regclass AND d.refobjid IN (live.reltype, live.typarray))
		   AND d.deptype <> 'i'
		   AND d.classid NOT IN ('pg_attrdef'::regclass, 'pg_trigger'::regclass, 'pg_statistic_ext'::regclass)
		   AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_index WHERE indexrelid = d.objid AND indrelid = live.oid))
		   AND NOT (d.classid = 'pg_constraint'::regclass AND EXISTS (SELECT FROM pg_constraint WHERE oid = d.objid AND conrelid = live.oid))
		UNION ALL SELECT 'row security' FROM live WHERE relrowsecurity
		UNION ALL SELECT 'a replica identity of its own' FROM live WHERE relreplident <> 'd'
		UNION ALL SELECT 'it inherits from ' || inhparent::regclass FROM live JOIN pg_inherits ON inhrelid = oid`, p.live())
	if err != nil {
		return unavailable("look for what depends on "+p.name, err)
	}
	if len(obstacles) > 0 {
		return &ObstacleError{Table: p.name, Obstacles: obstacles}
	}
	return nil
}

// ownColumns are those that a rebuild writes, or that tell when a row was written.
var ownColumns = []string{
	"nft_id", "state", "aggregate", "folded", "position", "created_at", "updated_at",
	"model_id", "task_type", "cohort", "score", "samples", "observed_at",
	"collection_id", "sum", "squares", "scores", "members",
}

// checkValues refuses a table in which others keep values of their own, in columns
// that they have added: in new rows these have their defaults.
func (p pair) checkValues(ctx context.Context, conn *pgx.Conn) error {
	columns, err := texts(ctx, conn, `
		SELECT format('SELECT %L WHERE EXISTS (SELECT FROM %s WHERE (%I)::text IS DISTINCT FROM (%s)::text)',
		              'values in the column ' || attname, $1::text, attname, coalesce(pg_get_expr(adbin, adrelid), 'NULL'))
		  FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
		 WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''
		   AND attname <> ALL ($2)`, p.live(), ownColumns)
	if err != nil {
		return err
	}
	var obstacles []string
	for _, sql := range columns {
		found, err := texts(ctx, conn, sql)
		if err != nil {
			return err
		}
		obstacles = append(obstacles, found...)
	}
	if len(obstacles) > 0 {
		return &ObstacleError{Table: p.name, Obstacles: obstacles}
	}
	return nil
}

// create makes the shadow: the columns of the live table with all that is said of
// them, its storage parameters, owner and privileges, and no index yet.
func (p pair) create(ctx context.Context, tx pgx.Tx) error {
	statements, err := texts(ctx, tx, `
		SELECT format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES)%s%s', $2::text, $1::text,
		              ' WITH (' || (SELECT string_agg(format('%I = %L', option_name, option_value), ', ')
		                              FROM pg_options_to_table(c.reloptions)) || ')',
		              (SELECT format(' TABLESPACE %I', spcname) FROM pg_tablespace WHERE oid = c.reltablespace))
		  FROM pg_class AS c WHERE c.oid = $1::text::regclass
		UNION ALL
		SELECT format('ALTER TABLE %s OWNER TO %I', $2::text, pg_get_userbyid(c.relowner))
		  FROM pg_class AS c WHERE c.oid = $1::text::regclass AND pg_get_userbyid(c.relowner) <> current_user`, p.live(), p.shadow())
	if err != nil {
		return err
	}
	return runAll(ctx, tx, statements)
}

// mirrored selects the indexes and constraints of the live table ($1) and what
// makes the like for the shadow ($2) under a name that is free until the swap: as
// kind, live name, name beside it, and statement. Names of indexes are the
// schema's, and so each is made of the number of its original.
const mirrored = `
	SELECT 'CONSTRAINT' AS kind, conname AS live, 'rebuild_' || oid AS beside,
	       format('ALTER TABLE %s ADD CONSTRAINT %I %s', $2::text, 'rebuild_' || oid, pg_get_constraintdef(oid)) AS statement
	  FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype IN ('p', 'u', 'x', 'f')
	UNION ALL
	SELECT 'INDEX', c.relname, 'rebuild_' || c.oid,
	       format('CREATE %sINDEX %I ON %s%s', CASE WHEN i.indisunique THEN 'UNIQUE ' END, 'rebuild_' || c.oid, $2::text,
	              substr(pg_get_indexdef(c.oid), strpos(pg_get_indexdef(c.oid), ' USING ')))
	  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
	 WHERE i.indrelid = $1::text::regclass AND i.indisvalid
	   AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid AND conrelid = i.indrelid)`

// missing are the statements that make those indexes and constraints of the live
// table that the shadow does not have yet.
func (p pair) missing(ctx context.Context, tx pgx.Tx) ([]string, error) {
	return texts(ctx, tx, `
		SELECT m.statement FROM (`+mirrored+`) AS m
		 WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = $2::text::regclass AND conname = m.beside)
		   AND NOT EXISTS (SELECT FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = $2::text::regclass AND relname = m.beside)`,
		p.live(), p.shadow())
}

// finish makes the indexes and gathers the statistics of a shadow that is loaded.
func (p pair) finish(ctx context.Context, tx pgx.Tx) error {
	statements, err := p.missing(ctx, tx)
	if err != nil {
		return err
	}
	if err := runAll(ctx, tx, statements); err != nil {
		return err
	}
	return p.analyze(ctx, tx)
}

// analyze has the planner know the columns that have an index, as the first queries
// after the swap need it. Other columns, of which those of JSON take longest, are left
// to autovacuum, which comes soon: PostgreSQL does not count this for an analysis.
func (p pair) analyze(ctx context.Context, tx pgx.Tx) error {
	statements, err := texts(ctx, tx, `
		SELECT format('ANALYZE %s (%s)', $1::text, string_agg(quote_ident(attname), ', '))
		  FROM pg_attribute AS a
		 WHERE attrelid = $1::text::regclass AND attnum > 0
		   AND EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND a.attnum = ANY (i.indkey))
		HAVING count(*) > 0`, p.shadow())
	if err != nil {
		return err
	}
	return runAll(ctx, tx, statements)
}

// swapped are the statements that put the shadow in the place of the live table. It
// fails with [errDrifted] when the live table is no longer what the shadow was made
// after.
func (p pair) swapped(ctx context.Context, tx pgx.Tx) ([]string, error) {
	missing, err := p.missing(ctx, tx)
	if err != nil {
		return nil, err
	}
	same, err := p.sameColumns(ctx, tx)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 || !same {
		return nil, errDrifted
	}
	attached, err := p.attached(ctx, tx)
	if err != nil {
		return nil, err
	}
	surplus, err := p.surplus(ctx, tx)
	if err != nil {
		return nil, err
	}
	renames, err := texts(ctx, tx, `
		SELECT CASE kind WHEN 'INDEX' THEN format('ALTER INDEX %I.%I RENAME TO %I', $3::text, beside, live)
		       ELSE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', $1::text, beside, live) END
		  FROM (`+mirrored+`) AS m`, p.live(), p.shadow(), p.schema)
	if err != nil {
		return nil, err
	}
	statements := []string{
		"DROP TABLE " + p.live(),
		"ALTER TABLE " + p.shadow() + " RENAME TO " + pgx.Identifier{p.name}.Sanitize(),
	}
	return slices.Concat(surplus, statements, renames, attached), nil
}

// surplus are the statements that drop what the shadow has of indexes and
// constraints that the live table has lost.
func (p pair) surplus(ctx context.Context, tx pgx.Tx) ([]string, error) {
	return texts(ctx, tx, `
		WITH m AS (`+mirrored+`)
		SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', $2::text, conname) FROM pg_constraint
		 WHERE conrelid = $2::text::regclass AND starts_with(conname, 'rebuild_') AND conname NOT IN (SELECT beside FROM m)
		UNION ALL
		SELECT format('DROP INDEX %I.%I', $3::text, relname) FROM pg_index AS i JOIN pg_class ON oid = indexrelid
		 WHERE indrelid = $2::text::regclass AND starts_with(relname, 'rebuild_') AND relname NOT IN (SELECT beside FROM m)
		   AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)`, p.live(), p.shadow(), p.schema)
}

// attached are the statements that give the table again what is not part of its
// definition: privileges, triggers and its comment.
func (p pair) attached(ctx context.Context, tx pgx.Tx) ([]string, error) {
	return texts(ctx, tx, `
		WITH acl AS (
			SELECT c.oid, a.grantee, a.privilege_type, a.is_grantable, NULL::name AS attname
			  FROM pg_class AS c, aclexplode(c.relacl) AS a WHERE a.grantee <> c.relowner
			UNION ALL
			SELECT c.oid, a.grantee, a.privilege_type, a.is_grantable, t.attname
			  FROM pg_class AS c JOIN pg_attribute AS t ON t.attrelid = c.oid AND NOT t.attisdropped, aclexplode(t.attacl) AS a
			 WHERE a.grantee <> c.relowner
		), role AS (SELECT 0::oid AS oid, 'PUBLIC' AS name UNION ALL SELECT oid, quote_ident(rolname) FROM pg_roles)
		SELECT format('REVOKE ALL ON TABLE %s FROM %s', $1::text, r.name)
		  FROM acl JOIN role AS r ON r.oid = acl.grantee WHERE acl.oid = $2::text::regclass AND attname IS NULL
		UNION ALL
		SELECT format('GRANT %s%s ON TABLE %s TO %s%s', privilege_type, CASE WHEN attname IS NOT NULL THEN format(' (%I)', attname) END, $1::text, r.name,
		              CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
		  FROM acl JOIN role AS r ON r.oid = acl.grantee WHERE acl.oid = $1::text::regclass
		UNION ALL
		SELECT format('COMMENT ON TABLE %s IS %L', $1::text, obj_description($1::text::regclass, 'pg_class'))
		 WHERE obj_description($1::text::regclass, 'pg_class') IS NOT NULL
		UNION ALL
		SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = $1::text::regclass AND NOT tgisinternal
		UNION ALL
		SELECT format('ALTER TABLE %s %s TRIGGER %I', $1::text,
		              CASE tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, tgname)
		  FROM pg_trigger WHERE tgrelid = $1::text::regclass AND NOT tgisinternal AND tgenabled <> 'O'`, p.live(), p.shadow())
}

// fingerprint tells whether anything was done to tables or attached to them: it is
// of all rows of the catalog from which a swap is planned.
func fingerprint(ctx context.Context, q querier, pairs []pair) (string, error) {
	var tables []string
	for _, p := range pairs {
		tables = append(tables, p.live())
	}
	found, err := texts(ctx, q, `
		WITH live AS (
			SELECT c.oid, c.reltype, t.typarray FROM unnest($1::text[]) AS name
			  JOIN pg_class AS c ON c.oid = name::regclass JOIN pg_type AS t ON t.oid = c.reltype
		), parts AS (
			SELECT indexrelid AS oid FROM pg_index WHERE indrelid IN (SELECT oid FROM live) UNION ALL SELECT oid FROM live
		)
		SELECT md5(string_agg(version, ' ' ORDER BY version)) FROM (
			SELECT 'class' || oid || ':' || xmin AS version FROM pg_class WHERE oid IN (SELECT oid FROM parts)
			UNION ALL SELECT 'attribute' || attrelid || '.' || attnum || ':' || xmin FROM pg_attribute WHERE attrelid IN (SELECT oid FROM live)
			UNION ALL SELECT 'default' || oid || ':' || xmin FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM live)
			UNION ALL SELECT 'index' || indexrelid || ':' || xmin FROM pg_index WHERE indrelid IN (SELECT oid FROM live)
			UNION ALL SELECT 'constraint' || oid || ':' || xmin FROM pg_constraint WHERE conrelid IN (SELECT oid FROM live)
			UNION ALL SELECT 'trigger' || oid || ':' || xmin FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM live)
			UNION ALL SELECT 'comment' || objoid || '.' || objsubid || ':' || xmin FROM pg_description
			           WHERE classoid = 'pg_class'::regclass AND objoid IN (SELECT oid FROM live)
			UNION ALL SELECT 'inherits' || inhrelid || '.' || inhparent FROM pg_inherits WHERE inhrelid IN (SELECT oid FROM live)
			UNION ALL SELECT 'depends' || d.classid || '.' || d.objid || '.' || d.refobjid FROM pg_depend AS d, live
			           WHERE (d.refclassid = 'pg_class'::regclass AND d.refobjid = live.oid OR
			                  d.refclassid = 'pg_type'::regclass AND d.refobjid IN (live.reltype, live.typarray))
		) AS versions`, tables)
	if err != nil {
		return "", err
	}
	return found[0], nil
}

// sameColumns says whether shadow and live table still have the same columns, with
// the same defaults and checks.
func (p pair) sameColumns(ctx context.Context, tx pgx.Tx) (same bool, err error) {
	const columns = `
		SELECT array_agg((a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attnotnull, pg_get_expr(d.adbin, d.adrelid))::text ORDER BY a.attnum)
		  FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		 WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = `
	const checks = `
		SELECT coalesce(array_agg((conname, replace(pg_get_constraintdef(oid), ' NOT VALID', ''))::text ORDER BY conname), '{}')
		  FROM pg_constraint WHERE contype = 'c' AND conrelid = `
	err = tx.QueryRow(ctx, `SELECT
		(`+columns+`$1::text::regclass) = (`+columns+`$2::text::regclass) AND
		(`+checks+`$1::text::regclass) = (`+checks+`$2::text::regclass)`, p.live(), p.shadow()).Scan(&same)
	return same, unavailable("compare the columns of "+p.name, err)
}

// holder tells which session has kept tables from being locked for longest, if it
// has for some time; empty when none has. Those of other roles count as if they had
// begun just now, where this one may not see when they began.
func holder(ctx context.Context, conn *pgx.Conn, pairs []pair, least time.Duration) (string, error) {
	var tables []string
	for _, p := range pairs {
		tables = append(tables, p.live())
	}
	who, err := texts(ctx, conn, `
		SELECT format('process %s (%s)%s', a.pid, coalesce(nullif(a.application_name, ''), a.backend_type, a.usename),
		              to_char(a.xact_start AT TIME ZONE 'UTC', '" since "YYYY-MM-DD"T"HH24:MI:SS"Z"'))
		  FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
		 WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
		   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		   AND l.relation IN (SELECT t::regclass FROM unnest($1::text[]) AS t)
		   AND coalesce(clock_timestamp() - a.xact_start, interval '0') >= $2
		 ORDER BY a.xact_start LIMIT 1`, tables, least)
	if err != nil || len(who) == 0 {
		return "", err
	}
	return who[0], nil
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// texts are the values of a query of one column.
func texts(ctx context.Context, q querier, sql string, args ...any) ([]string, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, unavailable("read the catalog", err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return values, unavailable("read the catalog", err)
}

// runAll executes statements in one round trip.
func runAll(ctx context.Context, tx pgx.Tx, statements []string) error {
	_, err := tx.Conn().PgConn().Exec(ctx, strings.Join(statements, ";\n")).ReadAll()
	return unavailable("change tables", err)
}

// limitLockWait bounds how long statements of the transaction wait for locks, and
// so how long they make others wait behind them.
func limitLockWait(ctx context.Context, tx pgx.Tx, wait time.Duration) error {
	_, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', $1, true)`, fmt.Sprintf("%dms", wait.Milliseconds()))
	return unavailable("limit the wait for locks", err)
}
