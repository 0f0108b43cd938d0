-- The sweep that compares what runs with what should, and what it takes to see a fleet at a glance.

CREATE TABLE fleet_sweeps (
  singleton     boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  -- One sweep at a time, over all daemons: whose turn it is, and until when unless it is extended.
  lease         uuid,
  lease_until   timestamptz,
  begun         bigint NOT NULL DEFAULT 0,
  -- Of the last one that ended, and why it came to nothing, if it did.
  ended_at      timestamptz,
  problem       text,
  -- Of the last one that ended well, with what it found.
  succeeded_at  timestamptz,
  runtimes      integer NOT NULL DEFAULT 0,
  -- Kind of difference → how many.
  drift         jsonb NOT NULL DEFAULT '{}',
  -- What runs without a tenant.
  orphans       jsonb NOT NULL DEFAULT '[]'
);
INSERT INTO fleet_sweeps DEFAULT VALUES;

-- Since when the runtime has been in its state, as far as was seen.
ALTER TABLE runtimes ADD COLUMN state_since timestamptz NOT NULL DEFAULT now();
UPDATE runtimes SET state_since = observed_at;

-- An older build that still serves shows (F85).
ALTER TABLE daemons ADD COLUMN build text NOT NULL DEFAULT '';
