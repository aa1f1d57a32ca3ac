-- Nonces that have signed in, so that no message signs in twice.
--
-- Runs with `dixie migrate up` or by hand, and again without harm:
--   psql -v ON_ERROR_STOP=1 -f migrations/007_signin_nonces.sql "$DATABASE_URL"

-- A row is needed until expires_at; those past it are removed as others come.
CREATE TABLE IF NOT EXISTS signin_nonces (
    nonce      text        PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

CREATE INDEX IF NOT EXISTS idx_signin_nonces_expires_at ON signin_nonces (expires_at);

INSERT INTO dixie_migrations (version, name) VALUES (7, 'signin_nonces') ON CONFLICT DO NOTHING;
