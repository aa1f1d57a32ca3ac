-- Reading the past, and telling who projects.
--
-- Runs with `dixie migrate up` or by hand, and again without harm:
--   psql -v ON_ERROR_STOP=1 -f migrations/010_history.sql "$DATABASE_URL"

-- The members of a collection: what an agent's reputation was depends on all of
-- them. It grows with agents, not with events.
CREATE INDEX IF NOT EXISTS idx_reputation_cohort_members_collection ON reputation_cohort_members (collection_id, nft_id);

-- Who is a projection's projector, or was the last one, with which session of the
-- database and since when, and the last error of any. The holder is the projector
-- while that session holds the advisory lock (1684633706, hash of the projection).
ALTER TABLE projection_checkpoints ADD COLUMN IF NOT EXISTS holder text;
ALTER TABLE projection_checkpoints ADD COLUMN IF NOT EXISTS holder_pid integer;
ALTER TABLE projection_checkpoints ADD COLUMN IF NOT EXISTS held_since timestamptz;
ALTER TABLE projection_checkpoints ADD COLUMN IF NOT EXISTS last_error text;
ALTER TABLE projection_checkpoints ADD COLUMN IF NOT EXISTS last_error_at timestamptz;

INSERT INTO dixie_migrations (version, name) VALUES (10, 'history') ON CONFLICT DO NOTHING;
