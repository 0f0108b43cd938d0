-- What was last observed of every runtime, and the credentials that tie it to its tenant.

CREATE TABLE runtimes (
  tenant_id       uuid PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
  driver          text NOT NULL,
  state           text NOT NULL CHECK (state IN ('starting', 'running', 'asleep', 'failed', 'absent')),
  -- Base URL of the webhook port, as the router uses it.
  address         text,
  image           text NOT NULL,
  spec_hash       text NOT NULL,
  -- The Telegram user named in the configuration that is in force; updates of anybody else are held.
  allowed_user_id bigint,
  reason          text,
  -- Failures in a row since the last success.
  attempts        integer NOT NULL DEFAULT 0,
  healthy_at      timestamptz,
  observed_at     timestamptz NOT NULL
);

-- SHA-256 of what a runtime presents to the internal listener; the secrets themselves lie in the vault.
CREATE TABLE runtime_credentials (
  tenant_id   uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  kind        text NOT NULL CHECK (kind IN ('telegram-token', 'model-key')),
  sha256      bytea NOT NULL,
  created_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, kind)
);
