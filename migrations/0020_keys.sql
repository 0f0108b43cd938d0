-- Keys of runtimes by generation, so that new ones can hold beside the old ones while a runtime moves over.

-- The generation of the keys that the runtime is to have. Secrets are named after it, so that no name ever stands for two values.
ALTER TABLE tenants ADD COLUMN key_generation integer NOT NULL DEFAULT 1;

ALTER TABLE runtimes
  -- That of the keys which the configuration in force names.
  ADD COLUMN key_generation integer NOT NULL DEFAULT 1,
  -- Since when it refuses the webhook secret that it should know; NULL while it doesn't.
  ADD COLUMN secret_refused_at timestamptz;

ALTER TABLE runtime_credentials ADD COLUMN generation integer NOT NULL DEFAULT 1;
ALTER TABLE runtime_credentials DROP CONSTRAINT runtime_credentials_pkey;
ALTER TABLE runtime_credentials ADD PRIMARY KEY (tenant_id, kind, generation);

-- Rotations under way; a row goes with the last of the old keys.
CREATE TABLE key_rotations (
  tenant_id        uuid PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
  from_generation  integer NOT NULL,
  to_generation    integer NOT NULL CHECK (to_generation > from_generation),
  reason           text NOT NULL,
  requested_at     timestamptz NOT NULL,
  -- When all of the new keys had been read back and the gateways could know them.
  minted_at        timestamptz,
  -- When the runtime was told to have them.
  adopted_at       timestamptz,
  -- Until when the old ones hold: a while after the runtime was seen to have the new ones.
  expires_at       timestamptz,
  -- Failures in a row, and the last of them.
  attempts         integer NOT NULL DEFAULT 0,
  trouble          text
);
