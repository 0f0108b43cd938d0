-- Tenants, who changed them and why, and what every process shares.

CREATE TABLE stamps (
  id          text PRIMARY KEY,
  created_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO stamps (id) VALUES ('default');

CREATE TABLE tenants (
  id                     uuid PRIMARY KEY,
  stamp_id               text NOT NULL REFERENCES stamps (id),
  slug                   text NOT NULL UNIQUE CHECK (slug ~ '^[a-z][a-z0-9-]{1,30}[a-z0-9]$'),
  display_name           text NOT NULL,
  email                  text NOT NULL,
  telegram_chat_id       bigint UNIQUE,
  telegram_user_id       bigint,
  telegram_username      text,
  language               text NOT NULL DEFAULT 'en',
  time_zone              text NOT NULL DEFAULT 'UTC',
  preferences            jsonb NOT NULL DEFAULT '{}',
  tags                   text[] NOT NULL DEFAULT '{}',
  tier                   text NOT NULL DEFAULT 'basic' CHECK (tier IN ('basic', 'plus')),
  budget_exempt          boolean NOT NULL DEFAULT false,
  billing_exempt         boolean NOT NULL DEFAULT false,
  status                 text NOT NULL DEFAULT 'pending'
                         CHECK (status IN ('pending', 'provisioning', 'active', 'suspended', 'deprovisioning', 'deleted')),
  status_reason          text,
  status_changed_at      timestamptz NOT NULL,
  suspended_by           text CHECK (suspended_by IN ('billing', 'operator')),
  -- While provisioning: when it is given up. NULL otherwise.
  provisioning_deadline  timestamptz,
  -- Entitlement that came back while the tenant was being removed: provision again once deleted.
  provision_when_deleted boolean NOT NULL DEFAULT false,
  trial_ends_at          timestamptz,
  hibernated_at          timestamptz,
  purge_after            timestamptz,
  created_at             timestamptz NOT NULL,
  updated_at             timestamptz NOT NULL,
  CHECK ((status = 'suspended') = (suspended_by IS NOT NULL)),
  CHECK ((status = 'provisioning') = (provisioning_deadline IS NOT NULL))
);
CREATE UNIQUE INDEX tenants_email_key ON tenants (lower(email));
CREATE INDEX tenants_status_idx ON tenants (status);

-- One row per change; append-only. tenant_id has no foreign key: the record outlives a purge.
CREATE TABLE audit_log (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at          timestamptz NOT NULL,
  actor       text NOT NULL,
  action      text NOT NULL,
  tenant_id   uuid,
  reason      text,
  request_id  text,
  detail      jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_tenant_idx ON audit_log (tenant_id, id);

CREATE TABLE idempotency_keys (
  key           text PRIMARY KEY,
  tenant_id     uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  -- SHA-256 of what was asked, so that a key reused for something else is noticed.
  request_hash  text NOT NULL,
  created_at    timestamptz NOT NULL
);

-- Single-use deep links that bind a Telegram chat to a tenant; only the hash is kept.
CREATE TABLE link_tokens (
  token_hash   bytea PRIMARY KEY,
  tenant_id    uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  created_at   timestamptz NOT NULL,
  expires_at   timestamptz NOT NULL,
  consumed_at  timestamptz,
  revoked_at   timestamptz
);
CREATE INDEX link_tokens_tenant_idx ON link_tokens (tenant_id);

-- Live daemons, by heartbeat: shares of shards and of rate limits, and jobs whose worker died, are derived from it.
CREATE TABLE daemons (
  id          uuid PRIMARY KEY,
  roles       text[] NOT NULL,
  version     text NOT NULL,
  host        text NOT NULL,
  pid         integer NOT NULL,
  worker_ids  text[] NOT NULL DEFAULT '{}',
  -- Where runtimes reach this daemon's gateways; NULL without the gateway role.
  gateway_url text,
  started_at  timestamptz NOT NULL DEFAULT now(),
  seen_at     timestamptz NOT NULL DEFAULT now()
);
