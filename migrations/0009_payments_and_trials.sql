-- What was paid and what was taken back, how often Stripe may be read, and which warnings of a trial's end were said.

-- A paid invoice each: it tells whether anything was paid since a charge was refunded or lost.
CREATE TABLE stripe_payments (
  invoice_id         text PRIMARY KEY,
  tenant_id          uuid NOT NULL REFERENCES tenant_billing (tenant_id) ON DELETE CASCADE,
  subscription_id    text NOT NULL,
  -- Newer API versions name neither.
  charge_id          text,
  payment_intent_id  text,
  -- NULL when the event did not say.
  amount_cents       bigint,
  currency           text,
  -- False for what is billed within a period, such as a change of plan.
  starts_period      boolean NOT NULL,
  paid_at            timestamptz NOT NULL
);
CREATE INDEX stripe_payments_tenant_idx ON stripe_payments (tenant_id);
CREATE INDEX stripe_payments_charge_idx ON stripe_payments (charge_id) WHERE charge_id IS NOT NULL;
CREATE INDEX stripe_payments_intent_idx ON stripe_payments (payment_intent_id) WHERE payment_intent_id IS NOT NULL;

-- Charges that were heard of; amounts are cumulative, as Stripe gives them.
CREATE TABLE stripe_charges (
  id                     text PRIMARY KEY,
  tenant_id              uuid NOT NULL REFERENCES tenant_billing (tenant_id) ON DELETE CASCADE,
  invoice_id             text,
  payment_intent_id      text,
  amount_cents           bigint,
  amount_refunded_cents  bigint NOT NULL DEFAULT 0,
  charged_at             timestamptz,
  -- Since when all of it is refunded.
  refunded_at            timestamptz,
  dispute_status         text,
  dispute_lost_at        timestamptz,
  -- An operator has lifted the block that it was.
  unblocked_at           timestamptz
);
CREATE INDEX stripe_charges_tenant_idx ON stripe_charges (tenant_id);
CREATE INDEX stripe_charges_intent_idx ON stripe_charges (payment_intent_id) WHERE payment_intent_id IS NOT NULL;

-- The customer was deleted in Stripe: nothing that comes later of this subscription counts.
ALTER TABLE stripe_subscriptions ADD COLUMN customer_deleted_at timestamptz;

-- When each kind of object may be read next from Stripe, by any daemon.
CREATE TABLE stripe_read_slots (
  kind     text PRIMARY KEY,
  next_at  timestamptz NOT NULL
);

-- The oldest of many that wait are found without sorting them all.
CREATE INDEX stripe_events_due_idx ON stripe_events (created_at) WHERE status = 'pending';
CREATE INDEX stripe_events_received_idx ON stripe_events (received_at);

-- One row per warning that was said; another end of the trial is another warning.
CREATE TABLE trial_warnings (
  tenant_id      uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
  trial_ends_at  timestamptz NOT NULL,
  days_before    integer NOT NULL,
  sent_at        timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, trial_ends_at, days_before)
);
