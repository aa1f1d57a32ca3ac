-- Roles with no more rights than they need, to be granted to those that log in.
--
-- Not part of `dixie migrate up`, as it needs the right to create roles. Runs with
-- `dixie migrate roles` or by hand, as the owner of the tables, and again without harm:
-- do so after each `dixie migrate up` that has applied something.
--   psql -v ON_ERROR_STOP=1 --single-transaction -f migrations/011_roles.sql "$DATABASE_URL"
--
--   dixie_append   appends events, which needs reading them: a repeated event is told
--                  from a conflict by what is stored under its id
--   dixie_project  reads the log, writes what is folded from it, and rebuilds that;
--                  keeps the nonces that have signed in
--   dixie_read     reads the log and what is folded from it
--
-- A server needs the first two. Roles belong to the whole cluster, and their rights to
-- this database. None may change or remove events, nor switch off the trigger that
-- refuses it: only the owner of the log can, so nobody should log in as that to serve.

DO $$
DECLARE
    name text;
    home regnamespace := (SELECT relnamespace FROM pg_class WHERE oid = 'reputation_events'::regclass);
BEGIN
    FOREACH name IN ARRAY ARRAY['dixie_append', 'dixie_project', 'dixie_read'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- from another database of the cluster, at this moment
            END;
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name);
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', home, name);
        EXECUTE format('GRANT SELECT ON dixie_migrations, reputation_events TO %I', name);
    END LOOP;
    -- A rebuild makes tables beside the live ones, and exchanges them.
    EXECUTE format('GRANT CREATE ON SCHEMA %s TO dixie_project', home);
    -- Whoever migrates must be able to give the tables away, and to change them later.
    IF NOT pg_has_role(current_user, 'dixie_project', 'USAGE') THEN
        EXECUTE format('GRANT dixie_project TO %I', current_user);
    END IF;
END
$$;

GRANT INSERT ON reputation_events TO dixie_append;
GRANT EXECUTE ON FUNCTION reputation_event_id(jsonb), reputation_next_position(), reputation_next_created_at() TO dixie_append;

-- Only the owner of a table can put another one in its place.
ALTER TABLE reputation_aggregates OWNER TO dixie_project;
ALTER TABLE reputation_task_cohorts OWNER TO dixie_project;
ALTER TABLE reputation_collections OWNER TO dixie_project;
ALTER TABLE reputation_cohort_members OWNER TO dixie_project;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON projection_checkpoints, projection_failures, projection_rebuilds, publisher_agents, signin_nonces
    TO dixie_project;

GRANT SELECT
    ON reputation_aggregates, reputation_task_cohorts, reputation_collections, reputation_cohort_members,
       projection_checkpoints, projection_failures, projection_rebuilds, publisher_agents
    TO dixie_read;
