-- Rows of agents are written again and again, and nearly all are long enough to be
-- compressed. lz4 takes a fraction of the time of pglz, for some 14 % more space.
--
-- Runs with `dixie migrate up` or by hand, and again without harm:
--   psql -v ON_ERROR_STOP=1 -f migrations/012_compression.sql "$DATABASE_URL"

-- A server that was built without lz4 keeps pglz. What is stored stays as it is, and is
-- read whatever it was compressed with.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
    ALTER TABLE reputation_aggregates ALTER COLUMN aggregate SET COMPRESSION lz4;
    ALTER TABLE reputation_aggregates ALTER COLUMN folded SET COMPRESSION lz4;
  END IF;
END
$$;

INSERT INTO dixie_migrations (version, name) VALUES (12, 'compression') ON CONFLICT DO NOTHING;
