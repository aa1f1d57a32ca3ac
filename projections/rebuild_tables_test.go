package projections_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"dixie/projections"
	"dixie/reputation"
)

// schema describes the tables of the projections: columns, indexes, constraints,
// privileges, triggers, settings, owner and comment.
const schema = `
	WITH live AS (SELECT * FROM pg_class WHERE relname IN
		('reputation_aggregates', 'reputation_collections', 'reputation_task_cohorts', 'reputation_cohort_members') AND relkind = 'r')
	SELECT concat_ws(' ', 'column', relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attcollation::regcollation,
	                 pg_get_expr(d.adbin, d.adrelid), col_description(live.oid, a.attnum))
	  FROM live JOIN pg_attribute AS a ON a.attrelid = live.oid AND a.attnum > 0 AND NOT a.attisdropped
	  LEFT JOIN pg_attrdef AS d ON d.adrelid = live.oid AND d.adnum = a.attnum
	UNION ALL
	SELECT concat_ws(' ', 'index', indexname, indexdef) FROM pg_indexes WHERE tablename IN (SELECT relname FROM live)
	UNION ALL
	SELECT concat_ws(' ', 'constraint', relname, conname, replace(pg_get_constraintdef(c.oid), ' NOT VALID', '')) FROM live JOIN pg_constraint AS c ON c.conrelid = live.oid
	UNION ALL
	SELECT concat_ws(' ', 'privilege', relname, a.grantee::regrole, a.privilege_type, a.is_grantable)
	  FROM live, aclexplode(coalesce(live.relacl, acldefault('r', live.relowner))) AS a
	UNION ALL
	SELECT concat_ws(' ', 'column privilege', relname, t.attname, a.grantee::regrole, a.privilege_type)
	  FROM live JOIN pg_attribute AS t ON t.attrelid = live.oid, aclexplode(t.attacl) AS a
	UNION ALL
	SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid), t.tgenabled) FROM live JOIN pg_trigger AS t ON t.tgrelid = live.oid AND NOT t.tgisinternal
	UNION ALL
	SELECT concat_ws(' ', 'settings', relname, reloptions, relowner::regrole, relpersistence, obj_description(oid, 'pg_class')) FROM live
	UNION ALL
	SELECT concat_ws(' ', 'statistics', relname, stxkind, stxkeys) FROM live JOIN pg_statistic_ext ON stxrelid = live.oid
	 ORDER BY 1`

// attachments are what others may have attached to the tables and is there again
// after a rebuild. The roles are of all databases of the server, so they are made
// when they are missing.
const attachments = `
	DO $$ BEGIN CREATE ROLE dixie_test_reader; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
	DO $$ BEGIN CREATE ROLE "dixie test owner"; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
	CREATE INDEX "an index" ON reputation_aggregates ((aggregate->>'pool_id')) WHERE state <> 'cold';
	CREATE UNIQUE INDEX "both" ON reputation_aggregates (nft_id, state) INCLUDE (position) WITH (fillfactor = 55);
	ALTER TABLE reputation_aggregates ADD CONSTRAINT positive CHECK (position IS NULL OR position > 0);
	ALTER TABLE reputation_task_cohorts ADD CONSTRAINT later CHECK (samples > 0) NOT VALID;
	ALTER TABLE reputation_cohort_members ADD CONSTRAINT twice UNIQUE (nft_id, collection_id);
	ALTER TABLE reputation_aggregates ADD COLUMN note text, ADD COLUMN kind text NOT NULL DEFAULT 'plain';
	ALTER TABLE reputation_aggregates ADD COLUMN pool text GENERATED ALWAYS AS (aggregate->>'pool_id') STORED;
	COMMENT ON COLUMN reputation_aggregates.note IS 'a remark';
	COMMENT ON TABLE reputation_aggregates IS 'it''s a comment';
	GRANT SELECT ON reputation_aggregates TO PUBLIC;
	GRANT SELECT, INSERT ON reputation_task_cohorts TO dixie_test_reader WITH GRANT OPTION;
	GRANT UPDATE (state) ON reputation_aggregates TO dixie_test_reader;
	ALTER TABLE reputation_collections OWNER TO "dixie test owner";
	ALTER TABLE reputation_collections SET (fillfactor = 44, autovacuum_enabled = false);
	CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
	CREATE TRIGGER watch AFTER UPDATE ON reputation_aggregates FOR EACH ROW WHEN (old.state <> new.state) EXECUTE FUNCTION nothing();
	CREATE TRIGGER asleep AFTER INSERT ON reputation_aggregates FOR EACH STATEMENT EXECUTE FUNCTION nothing();
	ALTER TABLE reputation_aggregates DISABLE TRIGGER asleep;
	CREATE TABLE known (collection_id text COLLATE "C" PRIMARY KEY);
	INSERT INTO known SELECT collection_id FROM reputation_collections;
	ALTER TABLE reputation_collections ADD FOREIGN KEY (collection_id) REFERENCES known;
	CREATE STATISTICS together (dependencies) ON nft_id, state FROM reputation_aggregates`

// TestRebuildKeepsAttachments: the tables are what they were, to the last grant,
// also after a second rebuild.
func TestRebuildKeepsAttachments(t *testing.T) {
	t.Parallel()
	p := verified(t)
	exec(t, p.pool, attachments)
	exec(t, p.pool, `ALTER DEFAULT PRIVILEGES GRANT DELETE ON TABLES TO dixie_test_reader`)
	defer func() {
		// The roles outlive the database. Another run of the test may be using them.
		_, _ = p.pool.Exec(t.Context(), `DROP OWNED BY dixie_test_reader, "dixie test owner" CASCADE; DROP ROLE dixie_test_reader, "dixie test owner"`)
	}()
	want, rows := table1(t, p.pool, schema), dump(t, p.pool)
	for range 2 {
		p.rebuild(t)
		sameRows(t, want, table1(t, p.pool, schema))
		sameRows(t, rows, dump(t, p.pool))
		p.noTraces(t)
	}
	// Without statistics the planner would take the new tables for empty ones.
	if n := query[float32](t, p.pool, `SELECT reltuples FROM pg_class WHERE oid = 'reputation_aggregates'::regclass`); n <= 0 {
		t.Errorf("the planner knows of %v aggregates", n)
	}
}

// TestRebuildObstacles: what would be lost or broken by the exchange of a table is
// named before anything is done.
func TestRebuildObstacles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		attach string
		want   string // part of what is named
		only   string // the projection that can still be rebuilt
	}{
		"view":         {`CREATE VIEW totals AS SELECT count(*) FROM reputation_aggregates`, "view totals", projections.Cohorts},
		"foreign key":  {`CREATE TABLE other (nft_id text COLLATE "C" REFERENCES reputation_cohort_members)`, "other_nft_id_fkey", projections.Aggregates},
		"row type":     {`CREATE FUNCTION f(reputation_collections) RETURNS int LANGUAGE sql AS 'SELECT 1'`, "function f(reputation_collections)", projections.Cohorts},
		"row security": {`ALTER TABLE reputation_task_cohorts ENABLE ROW LEVEL SECURITY`, "row security", projections.Aggregates},
		"policy":       {`CREATE POLICY p ON reputation_task_cohorts USING (true)`, "policy p", projections.Aggregates},
		"publication":  {`CREATE PUBLICATION p FOR TABLE reputation_aggregates`, "publication", projections.Cohorts},
		"child":        {`CREATE TABLE child () INHERITS (reputation_aggregates)`, "table child", projections.Cohorts},
		"parent":       {`CREATE TABLE parent (state text NOT NULL); ALTER TABLE reputation_aggregates INHERIT parent`, "inherits from parent", projections.Cohorts},
		"rule":         {`CREATE RULE r AS ON DELETE TO reputation_aggregates DO INSTEAD NOTHING`, "rule r", projections.Cohorts},
		"sequence":     {`ALTER TABLE reputation_aggregates ADD COLUMN n bigserial`, "sequence reputation_aggregates_n_seq", projections.Cohorts},
		"identity":     {`ALTER TABLE reputation_aggregates REPLICA IDENTITY FULL`, "replica identity", projections.Cohorts},
		"values":       {`ALTER TABLE reputation_aggregates ADD COLUMN note json; UPDATE reputation_aggregates SET note = '1'`, "values in the column note", projections.Cohorts},
		"other values": {`ALTER TABLE reputation_task_cohorts ADD COLUMN "a kind" int DEFAULT 7; UPDATE reputation_task_cohorts SET "a kind" = 8`, "values in the column a kind", projections.Aggregates},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := verified(t)
			exec(t, p.pool, c.attach)
			want, rows := table1(t, p.pool, schema), dump(t, p.pool)
			_, err := p.rows.Rebuild(t.Context(), rebuildConfig(t))
			checkObstacle(t, p, err, c.want)
			sameRows(t, want, table1(t, p.pool, schema))
			sameRows(t, rows, dump(t, p.pool))
			p.noTraces(t)
			p.rebuild(t, c.only)
		})
	}
}

func checkObstacle(t *testing.T, p process, err error, want string) {
	t.Helper()
	var obstacle *projections.ObstacleError
	if !errors.As(err, &obstacle) || !slices.ContainsFunc(obstacle.Obstacles, func(o string) bool { return strings.Contains(o, want) }) {
		t.Errorf("error %v, want an ObstacleError about %s", err, want)
	}
	if last := p.lastRebuild(t, projections.Aggregates); last.State != reputation.RebuildFailed || !strings.Contains(last.Failure, want) {
		t.Errorf("the note of the rebuild is %+v", last)
	}
}

// TestRebuildFollowsTables: what becomes of the live tables while they are rebuilt
// becomes of their successors too, or the rebuild fails.
func TestRebuildFollowsTables(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change string
		err    error // that the rebuild fails with
	}{
		"index":         {`CREATE INDEX meanwhile ON reputation_aggregates (position)`, nil},
		"unique":        {`ALTER TABLE reputation_cohort_members ADD CONSTRAINT twice UNIQUE (nft_id, collection_id)`, nil},
		"dropped index": {`DROP INDEX idx_reputation_task_cohorts_nft`, nil},
		"grant":         {`GRANT SELECT ON reputation_collections TO PUBLIC`, nil},
		"trigger":       {`CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; CREATE TRIGGER watch AFTER UPDATE ON reputation_aggregates FOR EACH ROW EXECUTE FUNCTION nothing()`, nil},
		"column":        {`ALTER TABLE reputation_aggregates ADD COLUMN note text`, projections.ErrDrifted},
		"less":          {`ALTER TABLE reputation_aggregates DROP COLUMN created_at`, projections.ErrDrifted},
		"default":       {`ALTER TABLE reputation_aggregates ALTER COLUMN state SET DEFAULT 'warming'`, projections.ErrDrifted},
		"comment":       {`COMMENT ON TABLE reputation_aggregates IS 'a remark'`, nil},
		"check":         {`ALTER TABLE reputation_collections ADD CHECK (members > 0)`, projections.ErrDrifted},
		"view":          {`CREATE VIEW totals AS SELECT count(*) FROM reputation_collections`, &projections.ObstacleError{}},
		"publication":   {`CREATE PUBLICATION p FOR TABLE reputation_aggregates`, &projections.ObstacleError{}},
	} {
		for _, stage := range []string{"swapping", "checkpoints"} {
			t.Run(name+" at "+stage, func(t *testing.T) {
				t.Parallel()
				p := verified(t)
				rows := dump(t, p.pool)
				changed := false
				_, err := p.rows.Rebuild(t.Context(), rebuildConfig(t).WithHook(func(at string) error {
					if at == stage && !changed {
						exec(t, p.pool, c.change)
						changed = true
					}
					return nil
				}))
				switch {
				case c.err == nil && err != nil, c.err == projections.ErrDrifted && !errors.Is(err, projections.ErrDrifted):
					t.Errorf("error %v, want %v", err, c.err)
				case c.err != nil && c.err != projections.ErrDrifted:
					checkObstacle(t, p, err, "")
				}
				if described := table1(t, p.pool, schema); name != "dropped index" && !containsChange(described, name) {
					t.Errorf("the change is not in\n%s", strings.Join(described, "\n"))
				}
				sameRows(t, rows, dump(t, p.pool))
				p.noTraces(t)
			})
		}
	}
}

// containsChange looks for what a change of [TestRebuildFollowsTables] has made.
func containsChange(described []string, change string) bool {
	want := map[string]string{
		"index": "index meanwhile", "unique": "constraint reputation_cohort_members twice", "grant": "privilege reputation_collections -",
		"trigger": "trigger CREATE TRIGGER watch", "column": "column reputation_aggregates note", "default": "'warming'",
		"comment": "a remark", "check": "constraint reputation_collections reputation_collections_members_check",
	}[change]
	return slices.ContainsFunc(described, func(line string) bool { return strings.Contains(line, want) })
}
