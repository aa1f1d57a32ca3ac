-- What the publisher keeps beside its checkpoint.
--
-- Runs with `dixie migrate up` or by hand, and again without harm:
--   psql -v ON_ERROR_STOP=1 -f migrations/008_publishing.sql "$DATABASE_URL"

-- The collection of each agent and the number of its observations since the last
-- reset, up to the publisher's checkpoint: from these follows its state, and with
-- the next event whether the state changes. Written in the transaction that moves
-- the checkpoint; a checkpoint at 0 goes with no rows, whatever the table has.
CREATE TABLE IF NOT EXISTS publisher_agents (
    nft_id        text COLLATE "C" PRIMARY KEY,
    collection_id text             NOT NULL,
    samples       bigint           NOT NULL
) WITH (fillfactor = 70);

INSERT INTO dixie_migrations (version, name) VALUES (8, 'publishing') ON CONFLICT DO NOTHING;
