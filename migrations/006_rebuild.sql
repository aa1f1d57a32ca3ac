-- Rebuilding a projection beside the live one.
--
-- Runs with `dixie migrate up` or by hand, and again without harm:
--   psql -v ON_ERROR_STOP=1 -f migrations/006_rebuild.sql "$DATABASE_URL"

-- The last rebuild of each projection. It is running while the session pid holds the
-- advisory lock (1684633707, hash of the projection). Without finished_at and without
-- the lock it is what a killed rebuild left, and the next one clears it. nfts and
-- set_aside are its result, failure is why it has none.
CREATE TABLE IF NOT EXISTS projection_rebuilds (
    projection  text        PRIMARY KEY,
    version     text        NOT NULL,
    holder      text        NOT NULL,
    pid         integer     NOT NULL,
    stage       text        NOT NULL,
    waits_for   text        NOT NULL DEFAULT '',
    started_at  timestamptz NOT NULL DEFAULT now(),
    position    bigint      NOT NULL DEFAULT 0,
    head        bigint      NOT NULL DEFAULT 0,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    failure     text,
    nfts        bigint,
    set_aside   bigint
) WITH (fillfactor = 10);

-- How often the rows were rebuilt. A projector that began with other rows than
-- there are notices by it, wherever it stands.
ALTER TABLE projection_checkpoints ADD COLUMN IF NOT EXISTS generation bigint NOT NULL DEFAULT 0;

INSERT INTO dixie_migrations (version, name) VALUES (6, 'rebuild') ON CONFLICT DO NOTHING;
