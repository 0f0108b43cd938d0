-- The ledger of Stripe's events and the projection that entitlement reads.

CREATE TABLE stripe_events (
  id               text PRIMARY KEY,
  type             text NOT NULL,
  api_version      text,
  -- Stripe's own time of the event, in whole seconds: it can't order events of the same second.
  created_at       timestamptz NOT NULL,
  -- The Stripe customer, else the object: events of one lane are applied one at a time.
  lane             text NOT NULL,
  payload          jsonb NOT NULL,
  received_at      timestamptz NOT NULL,
  status           text NOT NULL DEFAULT 'pending'
                   CHECK (status IN ('pending', 'projected', 'ignored', 'unmatched', 'failed')),
  tenant_id        uuid,
  attempts         integer NOT NULL DEFAULT 0,
  next_attempt_at  timestamptz NOT NULL,
  last_error       text,
  finished_at      timestamptz
);
CREATE INDEX stripe_events_pending_idx ON stripe_events (next_attempt_at, created_at) WHERE status = 'pending';
CREATE INDEX stripe_events_tenant_idx ON stripe_events (tenant_id, received_at);
CREATE INDEX stripe_events_attention_idx ON stripe_events (received_at) WHERE status IN ('unmatched', 'failed');

CREATE INDEX stripe_events_unmatched_idx ON stripe_events (lane) WHERE status = 'unmatched';

CREATE TABLE tenant_billing (
  tenant_id           uuid PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
  -- Not unique: one person may pay for two tenants.
  stripe_customer_id  text,
  -- A fully refunded or lost charge, until another charge pays.
  blocked_charge_id   text,
  updated_at          timestamptz NOT NULL
);
CREATE INDEX tenant_billing_customer_idx ON tenant_billing (stripe_customer_id);

-- A row per subscription, so that late news of an old one can't touch the new one; which of them counts is decided when read.
CREATE TABLE stripe_subscriptions (
  id                    text PRIMARY KEY,
  tenant_id             uuid NOT NULL REFERENCES tenant_billing (tenant_id) ON DELETE CASCADE,
  customer_id           text,
  -- NULL while only its checkout or an invoice has been heard of.
  status                text CHECK (status IN ('incomplete', 'incomplete_expired', 'trialing', 'active',
                                               'past_due', 'canceled', 'unpaid', 'paused')),
  price_id              text,
  cancel_at_period_end  boolean NOT NULL DEFAULT false,
  current_period_end    timestamptz,
  started_at            timestamptz NOT NULL,
  -- Stripe's time and id of the event whose status is in force: older ones are passed over.
  status_as_of          timestamptz,
  status_event_id       text,
  -- Of the checkout: a delayed payment is awaited, has failed, or has come (or none was needed).
  first_payment         text CHECK (first_payment IN ('awaiting', 'failed', 'paid')),
  -- Set while the newest invoice news is a failure; with next_payment_attempt NULL, Stripe won't try again.
  payment_failed_at     timestamptz,
  next_payment_attempt  timestamptz,
  last_paid_at          timestamptz,
  invoice_as_of         timestamptz,
  invoice_event_id      text,
  updated_at            timestamptz NOT NULL
);
CREATE INDEX stripe_subscriptions_tenant_idx ON stripe_subscriptions (tenant_id);
CREATE INDEX stripe_subscriptions_customer_idx ON stripe_subscriptions (customer_id);
