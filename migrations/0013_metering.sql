-- What model calls cost, what they may cost, and how many messages were delivered.

-- Every price table that was ever used, so that each record's cost can be worked out again.
CREATE TABLE price_tables (
  -- Of its content: the first 12 hexadecimal digits of its SHA-256.
  version        text PRIMARY KEY,
  prices         jsonb NOT NULL,
  first_used_at  timestamptz NOT NULL
);

-- One row per model call; append-only. tenant_id has no foreign key: what was spent outlives a purge.
CREATE TABLE usage_records (
  -- That of its reservation.
  id                     uuid PRIMARY KEY,
  tenant_id              uuid NOT NULL,
  tier                   text NOT NULL,
  model                  text NOT NULL,
  price_version          text NOT NULL REFERENCES price_tables (version),
  input_tokens           bigint NOT NULL CHECK (input_tokens >= 0),
  output_tokens          bigint NOT NULL CHECK (output_tokens >= 0),
  cache_read_tokens      bigint NOT NULL CHECK (cache_read_tokens >= 0),
  cache_write_tokens     bigint NOT NULL CHECK (cache_write_tokens >= 0),
  -- Those of the cache writes that are kept for an hour, which cost more.
  cache_write_hour_tokens  bigint NOT NULL CHECK (cache_write_hour_tokens BETWEEN 0 AND cache_write_tokens),
  cost_micro_usd         bigint NOT NULL CHECK (cost_micro_usd >= 0),
  -- The call's end is unknown: what is not known is counted as it was reserved.
  is_assumed             boolean NOT NULL,
  -- YYYY-MM in the tenant's time zone.
  month                  text NOT NULL,
  -- When the call began.
  at                     timestamptz NOT NULL
);
CREATE INDEX usage_records_tenant_idx ON usage_records (tenant_id, at);
CREATE INDEX usage_records_at_idx ON usage_records (at);

-- What a call under way may cost at most. It ends as a record, or without a trace when the provider took nothing.
CREATE TABLE usage_reservations (
  id              uuid PRIMARY KEY,
  tenant_id       uuid NOT NULL,
  tier            text NOT NULL,
  model           text NOT NULL,
  price_version   text NOT NULL REFERENCES price_tables (version),
  input_tokens    bigint NOT NULL CHECK (input_tokens >= 0),
  output_tokens   bigint NOT NULL CHECK (output_tokens >= 0),
  cost_micro_usd  bigint NOT NULL CHECK (cost_micro_usd >= 0),
  month           text NOT NULL,
  utc_month       text NOT NULL,
  -- Whose call it is: when that daemon dies, nobody knows how the call ended.
  daemon_id       uuid NOT NULL,
  reserved_at     timestamptz NOT NULL,
  expires_at      timestamptz NOT NULL
);
CREATE INDEX usage_reservations_tenant_idx ON usage_reservations (tenant_id);

-- Sums of records, by the tenant's own month and by that of UTC.
CREATE TABLE usage_months (
  tenant_id       uuid NOT NULL,
  month           text NOT NULL,
  calls           bigint NOT NULL,
  tokens          bigint NOT NULL,
  cost_micro_usd  bigint NOT NULL,
  PRIMARY KEY (tenant_id, month)
);
CREATE TABLE fleet_usage_months (
  utc_month       text PRIMARY KEY,
  calls           bigint NOT NULL,
  tokens          bigint NOT NULL,
  cost_micro_usd  bigint NOT NULL
);

-- One row, locked by whoever reserves: that is what keeps concurrent calls within every limit.
CREATE TABLE spending_limits (
  singleton             boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  -- Of a tenant without a budget of its own.
  tokens_per_month      bigint NOT NULL DEFAULT 500000,
  -- Of all tenants together; NULL: no cap.
  micro_usd_per_month   bigint DEFAULT 100000000,
  -- The cap has turned a call away: nothing is delivered to runtimes until then.
  capped_until          timestamptz,
  -- The kill switch.
  stopped_at            timestamptz,
  stopped_reason        text
);
INSERT INTO spending_limits DEFAULT VALUES;

CREATE TABLE tenant_budgets (
  tenant_id            uuid PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
  -- NULL: the default.
  tokens_per_month     bigint,
  -- NULL: none.
  micro_usd_per_month  bigint,
  updated_at           timestamptz NOT NULL
);

-- Tenants that have nothing left to spend.
CREATE TABLE budget_stops (
  tenant_id  uuid PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
  measure    text NOT NULL CHECK (measure IN ('tokens', 'micro-usd')),
  until      timestamptz NOT NULL
);

-- What was said already; another limit is another warning. tenant_id NULL: the fleet's cap.
CREATE TABLE budget_warnings (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id   uuid REFERENCES tenants (id) ON DELETE CASCADE,
  month       text NOT NULL,
  measure     text NOT NULL CHECK (measure IN ('tokens', 'micro-usd')),
  percent     integer NOT NULL CHECK (percent IN (80, 90, 100)),
  allowed     bigint NOT NULL,
  warned_at   timestamptz NOT NULL,
  -- When its subscriber and the log were told; NULL: not yet, though somebody may be at it until `claimed_until`.
  told_at        timestamptz,
  claimed_until  timestamptz,
  UNIQUE NULLS NOT DISTINCT (tenant_id, month, measure, percent, allowed)
);
CREATE INDEX budget_warnings_untold_idx ON budget_warnings (id) WHERE told_at IS NULL;

-- Messages that reached a tenant's runtime, by the day in its time zone.
CREATE TABLE message_days (
  tenant_id  uuid NOT NULL,
  day        date NOT NULL,
  messages   bigint NOT NULL,
  last_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, day)
);
-- Up to when finished updates are counted there: counting each as it is delivered would cost as much as delivering it.
CREATE TABLE message_counting (
  singleton      boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  counted_until  timestamptz NOT NULL
);
INSERT INTO message_counting (counted_until) VALUES (now() - interval '2 days');

-- What purged tenants had paid: a month's report must not change afterwards.
CREATE TABLE purged_revenue (
  tenant_id         uuid NOT NULL,
  utc_month         text NOT NULL,
  tier              text NOT NULL,
  currency          text NOT NULL,
  payments          bigint NOT NULL,
  gross_cents       bigint NOT NULL,
  taken_back_cents  bigint NOT NULL,
  PRIMARY KEY (tenant_id, utc_month, currency)
);
CREATE INDEX purged_revenue_month_idx ON purged_revenue (utc_month);
CREATE INDEX stripe_payments_paid_idx ON stripe_payments (paid_at);

-- Somebody sells the tenant a subscription until then: two at once would sell two.
ALTER TABLE tenant_billing ADD COLUMN selling_until timestamptz;
