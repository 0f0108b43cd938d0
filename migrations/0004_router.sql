-- The Telegram inbox: every accepted update, its lane, and who may work on it.

CREATE TABLE telegram_updates (
  -- Order of acceptance.
  seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  bot_id       bigint NOT NULL,
  update_id    bigint NOT NULL,
  -- The chat, else the user; updates of one lane are delivered strictly one after the other.
  lane         bigint NOT NULL,
  shard        smallint NOT NULL,
  body         bytea NOT NULL,
  accepted_at  timestamptz NOT NULL,
  outcome      text CHECK (outcome IN ('delivered', 'answered', 'ignored', 'dropped', 'dead')),
  reason       text,
  tenant_id    uuid,
  finished_at  timestamptz,
  UNIQUE (bot_id, update_id)
);
-- What is still to be done, in the order in which a shard's owner reads it.
CREATE INDEX telegram_updates_open_idx ON telegram_updates (shard, lane, seq) WHERE finished_at IS NULL;
CREATE INDEX telegram_updates_finished_idx ON telegram_updates (finished_at) WHERE finished_at IS NOT NULL;

-- A lease on a share of all lanes. `epoch` is the fence: it grows with every change of owner, and finishing an update
-- requires the epoch under which its shard was taken.
CREATE TABLE router_shards (
  shard       smallint PRIMARY KEY,
  owner       uuid,
  epoch       bigint NOT NULL DEFAULT 0,
  expires_at  timestamptz
);
INSERT INTO router_shards (shard) SELECT generate_series(0, 63);

CREATE TABLE telegram_dead_letters (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  seq          bigint NOT NULL UNIQUE,
  bot_id       bigint NOT NULL,
  update_id    bigint NOT NULL,
  lane         bigint NOT NULL,
  tenant_id    uuid,
  body         bytea NOT NULL,
  reason       text NOT NULL,
  accepted_at  timestamptz NOT NULL,
  died_at      timestamptz NOT NULL
);

-- Notices that are sent at most once per chat, topic and period.
CREATE TABLE telegram_notices (
  chat_id    bigint NOT NULL,
  topic      text NOT NULL,
  sent_at    timestamptz NOT NULL,
  PRIMARY KEY (chat_id, topic)
);

-- Ids that a tenant has seen (in what was delivered to it, and in replies to its calls), and may name in calls of its own.
CREATE TABLE telegram_known_ids (
  tenant_id  uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  kind       text NOT NULL,
  id         text NOT NULL,
  seen_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, kind, id)
);
CREATE INDEX telegram_known_ids_seen_idx ON telegram_known_ids (seen_at);
