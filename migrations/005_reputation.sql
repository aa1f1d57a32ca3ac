-- The reputation log and the projections that are folded from it.
--
-- Needs PostgreSQL 14 or newer. Runs with `dixie migrate up` or by hand:
--   psql -v ON_ERROR_STOP=1 -f migrations/005_reputation.sql "$DATABASE_URL"
-- Every statement can run again without harm. Tables of the earlier service
-- that are already there are kept with their rows and extended.

CREATE TABLE IF NOT EXISTS dixie_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- The identity of an event is the one that its author gave it. A row whose
-- event has no valid event_id has no identity: it is stored, and the projectors
-- set it aside.
CREATE OR REPLACE FUNCTION reputation_event_id(event jsonb) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN event->>'event_id' ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
        THEN (event->>'event_id')::uuid
    END
$$;

-- The position of a row that a plain INSERT writes. VOLATILE, so that each call
-- takes a new snapshot and sees what was committed while the trigger below
-- waited for its lock, and the rows before it in the same statement. Never by
-- reading the whole table, which the planner prefers while its statistics call
-- the log small: the rows of one large import would each read all before them.
CREATE OR REPLACE FUNCTION reputation_next_position() RETURNS bigint
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
BEGIN
    RETURN (SELECT coalesce(max(position), 0) + 1 FROM reputation_events);
END
$$;

-- The time of a row that a plain INSERT writes: now, and always later than the
-- row before it, so that the order of created_at is the order of the log also
-- within one statement and when the clock is set back.
CREATE OR REPLACE FUNCTION reputation_next_created_at() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
BEGIN
    RETURN greatest(
        clock_timestamp(),
        (SELECT created_at + interval '1 microsecond'
           FROM reputation_events ORDER BY position DESC LIMIT 1));
END
$$;

CREATE TABLE IF NOT EXISTS reputation_events (
    position   bigint           NOT NULL DEFAULT reputation_next_position() PRIMARY KEY,
    id         uuid             GENERATED ALWAYS AS (reputation_event_id(event)) STORED,
    nft_id     text COLLATE "C" NOT NULL,
    event_type text             NOT NULL,
    event      jsonb            NOT NULL,
    created_at timestamptz      NOT NULL DEFAULT reputation_next_created_at()
);

-- A log that the earlier service left: number its rows in their order of
-- creation and let the event's own id be the row's.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_attribute
                WHERE attrelid = 'reputation_events'::regclass AND attname = 'position' AND NOT attisdropped) THEN
        RETURN;
    END IF;
    LOCK TABLE reputation_events IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE reputation_events ADD COLUMN position bigint;
    UPDATE reputation_events e
       SET position = n.position, created_at = n.first + n.position * interval '1 microsecond'
      FROM (SELECT ctid,
                   row_number() OVER (ORDER BY created_at, ctid) AS position,
                   max(created_at) OVER (ORDER BY created_at, ctid) AS first
              FROM reputation_events) n
     WHERE e.ctid = n.ctid;
    ALTER TABLE reputation_events DROP COLUMN id CASCADE;
    ALTER TABLE reputation_events
        ADD COLUMN id uuid GENERATED ALWAYS AS (reputation_event_id(event)) STORED,
        ALTER COLUMN nft_id TYPE text COLLATE "C",
        ALTER COLUMN nft_id SET NOT NULL,
        ALTER COLUMN event_type SET NOT NULL,
        ALTER COLUMN event SET NOT NULL,
        ALTER COLUMN created_at SET NOT NULL,
        ALTER COLUMN created_at SET DEFAULT reputation_next_created_at(),
        ALTER COLUMN position SET NOT NULL,
        ALTER COLUMN position SET DEFAULT reputation_next_position(),
        ADD PRIMARY KEY (position);
END
$$;

CREATE UNIQUE INDEX IF NOT EXISTS idx_reputation_events_id ON reputation_events (id);
CREATE INDEX IF NOT EXISTS idx_reputation_events_nft_date ON reputation_events (nft_id, created_at);

-- One writer at a time, from before the first position is drawn until commit:
-- the order in which events become visible is the order of their positions, for
-- every program that writes. FOR EACH STATEMENT, because a row's default is
-- evaluated before a row trigger fires. Key 1 of Dixie's advisory locks
-- (1684633705 is "dixi" in ASCII).
CREATE OR REPLACE FUNCTION reputation_events_in_order() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1684633705, 1);
    PERFORM pg_notify('reputation_events', '');
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION reputation_events_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'reputation_events is append-only: % refused', TG_OP
        USING ERRCODE = 'restrict_violation',
              HINT = 'Events are the only truth of this service. Append a correcting event instead.';
END
$$;

CREATE OR REPLACE TRIGGER reputation_events_in_order
    BEFORE INSERT ON reputation_events
    FOR EACH STATEMENT EXECUTE FUNCTION reputation_events_in_order();

CREATE OR REPLACE TRIGGER reputation_events_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON reputation_events
    FOR EACH STATEMENT EXECUTE FUNCTION reputation_events_append_only();

-- What follows is folded from the log and can be thrown away.

-- folded is the projector's whole state of the agent, aggregate what the protocol
-- shows of it, and position the last event in it. folded and position are NULL in
-- a row that another program inserted; the projector does not build on it. The fill factor leaves room for updates
-- that touch no index.
CREATE TABLE IF NOT EXISTS reputation_aggregates (
    nft_id     text COLLATE "C" PRIMARY KEY,
    state      text             NOT NULL DEFAULT 'cold',
    aggregate  jsonb            NOT NULL,
    folded     json,
    position   bigint,
    created_at timestamptz      NOT NULL DEFAULT now(),
    updated_at timestamptz      NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

-- score, samples and observed_at are the projector's state of the cohort, and
-- cohort is what the protocol shows of it.
CREATE TABLE IF NOT EXISTS reputation_task_cohorts (
    nft_id      text COLLATE "C" NOT NULL,
    model_id    text COLLATE "C" NOT NULL,
    task_type   text COLLATE "C" NOT NULL,
    cohort      jsonb            NOT NULL,
    score       double precision,
    samples     bigint,
    observed_at text,
    position    bigint,
    created_at  timestamptz      NOT NULL DEFAULT now(),
    updated_at  timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (nft_id, model_id, task_type)
) WITH (fillfactor = 70);

ALTER TABLE reputation_aggregates ADD COLUMN IF NOT EXISTS folded json;
ALTER TABLE reputation_aggregates ADD COLUMN IF NOT EXISTS position bigint;
ALTER TABLE reputation_task_cohorts ADD COLUMN IF NOT EXISTS score double precision;
ALTER TABLE reputation_task_cohorts ADD COLUMN IF NOT EXISTS samples bigint;
ALTER TABLE reputation_task_cohorts ADD COLUMN IF NOT EXISTS observed_at text;
ALTER TABLE reputation_task_cohorts ADD COLUMN IF NOT EXISTS position bigint;

-- Pages of a listing are read in byte order, as the service in memory does,
-- whatever collation the database has.
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT attrelid::regclass AS tbl, attname AS col
          FROM pg_attribute
         WHERE attrelid IN ('reputation_aggregates'::regclass, 'reputation_task_cohorts'::regclass)
           AND attname IN ('nft_id', 'model_id', 'task_type')
           AND attcollation <> (SELECT oid FROM pg_collation WHERE collname = 'C' AND collnamespace = 'pg_catalog'::regnamespace)
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE text COLLATE "C"', c.tbl, c.col);
    END LOOP;
END
$$;

CREATE INDEX IF NOT EXISTS idx_reputation_aggregates_state ON reputation_aggregates (state);
CREATE INDEX IF NOT EXISTS idx_reputation_aggregates_state_nft ON reputation_aggregates (state, nft_id);
CREATE INDEX IF NOT EXISTS idx_reputation_task_cohorts_nft ON reputation_task_cohorts (nft_id);

-- What the aggregates projection knows of a collection as a whole: the sum of
-- its members' personal scores (scores of them have one), of their squares, and
-- how many members there are.
CREATE TABLE IF NOT EXISTS reputation_collections (
    collection_id text COLLATE "C" PRIMARY KEY,
    sum           double precision NOT NULL,
    squares       double precision NOT NULL,
    scores        bigint           NOT NULL,
    members       bigint           NOT NULL
) WITH (fillfactor = 70);

-- The collection of each agent as the cohorts projection has seen it, so that
-- it sets the same events aside as the aggregates projection without waiting
-- for it.
CREATE TABLE IF NOT EXISTS reputation_cohort_members (
    nft_id        text COLLATE "C" PRIMARY KEY,
    collection_id text             NOT NULL
);

-- How far each projection has come, with which version of the fold, and when the
-- event at that position was stored: a log that was restored to an earlier time
-- and has grown again is not the one that was folded.
CREATE TABLE IF NOT EXISTS projection_checkpoints (
    projection       text        PRIMARY KEY,
    version          text        NOT NULL,
    position         bigint      NOT NULL DEFAULT 0,
    event_created_at timestamptz,
    updated_at       timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10);

-- Events that a projection could not fold, and why.
CREATE TABLE IF NOT EXISTS projection_failures (
    projection text        NOT NULL,
    position   bigint      NOT NULL,
    nft_id     text        NOT NULL,
    reason     text        NOT NULL,
    detail     text        NOT NULL,
    failed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, position)
);

INSERT INTO dixie_migrations (version, name) VALUES (5, 'reputation') ON CONFLICT DO NOTHING;
