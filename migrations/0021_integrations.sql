-- Connections of tenants to providers by OAuth. Tokens lie in the vault alone; here is what is known about them.

CREATE TABLE connections (
  tenant_id          uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  provider           text NOT NULL,
  state              text NOT NULL CHECK (state IN ('active', 'expired', 'error', 'revoked')),
  -- A code of why it is in that state; NULL while all is well.
  reason             text,
  state_changed_at   timestamptz NOT NULL,
  -- The consent behind it: another with every connect, so that what belongs to one is never taken for another's.
  grant_id           uuid NOT NULL,
  -- Whose OAuth client it was given to, and by which account: connections that share both share one grant at the provider.
  client             text NOT NULL,
  account_subject    text,
  account_email      text,
  scopes             text[] NOT NULL,
  connected_at       timestamptz NOT NULL,
  -- Which version of the secret counts, and the fence under which it was written.
  secret_version     text NOT NULL,
  secret_fence       bigint NOT NULL,
  -- NULL: the access token does not expire.
  access_expires_at  timestamptz,
  has_refresh_token  boolean NOT NULL,
  refreshed_at       timestamptz,
  -- When it is due next; NULL: never.
  refresh_at         timestamptz,
  tried_at           timestamptz,
  -- Failures in a row, and the code of the last.
  attempts           integer NOT NULL DEFAULT 0,
  trouble            text,
  -- Until when the provider asked to be left alone.
  wait_until         timestamptz,
  PRIMARY KEY (tenant_id, provider)
);
CREATE INDEX connections_due_idx ON connections (provider, refresh_at) WHERE state IN ('active', 'error');
CREATE INDEX connections_grant_idx ON connections (client, account_subject);

-- Consents that are over, or that no connection came of: their tokens lie in the vault until the provider was told. A consent is here
-- before its tokens are kept, and leaves as its connection is made, so that none is forgotten. No foreign key: what is left of a tenant
-- that is gone has to be ended, too.
CREATE TABLE grants_to_end (
  grant_id         uuid PRIMARY KEY,
  tenant_id        uuid NOT NULL,
  provider         text NOT NULL,
  client           text NOT NULL,
  account_subject  text,
  since            timestamptz NOT NULL,
  try_at           timestamptz NOT NULL,
  -- Grows with everybody who takes it up; who was overtaken can't finish.
  attempts         integer NOT NULL DEFAULT 0,
  -- The provider knows; the tokens are still to be deleted.
  is_told          boolean NOT NULL DEFAULT false
);
CREATE INDEX grants_to_end_due_idx ON grants_to_end (try_at);
CREATE INDEX grants_to_end_tenant_idx ON grants_to_end (tenant_id);

-- Who may change a connection's tokens, or make one. Apart from the connection, which need not be there yet, and kept when it goes, so
-- that no fence comes twice.
CREATE TABLE connection_leases (
  tenant_id    uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  provider     text NOT NULL,
  -- Grows with everybody who takes it; who was overtaken can't finish.
  fence        bigint NOT NULL,
  -- By the database's clock; NULL while nobody has it.
  lease_until  timestamptz,
  PRIMARY KEY (tenant_id, provider)
);

-- What was done about connections, and how it went.
CREATE TABLE connection_events (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id    uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  provider     text NOT NULL,
  at           timestamptz NOT NULL,
  kind         text NOT NULL CHECK (kind IN ('connect', 'refresh', 'token', 'revoke')),
  -- Who wanted it: the sweep, a runtime, an operator, the subscriber.
  asked_by     text NOT NULL CHECK (asked_by IN ('sweep', 'runtime', 'operator', 'subscriber')),
  outcome      text NOT NULL,
  -- The provider's error code, where it is one that we know.
  code         text,
  duration_ms  integer NOT NULL,
  -- When it is tried again.
  retry_at     timestamptz
);
CREATE INDEX connection_events_connection_idx ON connection_events (tenant_id, provider, id);
CREATE INDEX connection_events_at_idx ON connection_events (at);

-- Links that offer to connect; only the hash is kept. Used up by a connection that came of it.
CREATE TABLE connect_links (
  token_hash  bytea PRIMARY KEY,
  tenant_id   uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  provider    text NOT NULL,
  created_at  timestamptz NOT NULL,
  expires_at  timestamptz NOT NULL,
  used_at     timestamptz,
  revoked_at  timestamptz,
  -- By a newer one, or because the connection was ended.
  revoked_as  text CHECK (revoked_as IN ('replaced', 'disconnected'))
);
CREATE INDEX connect_links_tenant_idx ON connect_links (tenant_id, provider);

-- Consents under way at a provider: single use, and bound to one browser by the hash of a cookie's nonce.
CREATE TABLE oauth_states (
  state_hash   bytea PRIMARY KEY,
  tenant_id    uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  provider     text NOT NULL,
  link_hash    bytea NOT NULL REFERENCES connect_links (token_hash) ON DELETE CASCADE,
  nonce_hash   bytea NOT NULL,
  created_at   timestamptz NOT NULL,
  expires_at   timestamptz NOT NULL,
  consumed_at  timestamptz
);
CREATE INDEX oauth_states_tenant_idx ON oauth_states (tenant_id);
CREATE INDEX oauth_states_link_idx ON oauth_states (link_hash);

-- OAuth clients that a provider refuses: our fault, not the subscribers'. One connection at a time is tried until one succeeds.
CREATE TABLE client_troubles (
  provider    text PRIMARY KEY,
  code        text NOT NULL,
  since       timestamptz NOT NULL,
  -- When the next is tried.
  probe_at    timestamptz NOT NULL
);
