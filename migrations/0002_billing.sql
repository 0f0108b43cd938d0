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

CREATE TABLE tenant_billing (
  tenant_id             uuid PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
  stripe_customer_id    text UNIQUE,
  subscription_id       text UNIQUE,
  subscription_status   text CHECK (subscription_status IN ('incomplete', 'incomplete_expired', 'trialing', 'active',
                                                            'past_due', 'canceled', 'unpaid', 'paused')),
  price_id              text,
  cancel_at_period_end  boolean NOT NULL DEFAULT false,
  current_period_end    timestamptz,
  -- When Stripe will try the open invoice again; NULL with payment_failed_at set: it will not.
  next_payment_attempt  timestamptz,
  payment_failed_at     timestamptz,
  last_paid_at          timestamptz,
  -- A completed checkout whose delayed payment has not arrived yet.
  awaiting_payment      boolean NOT NULL DEFAULT false,
  -- A fully refunded or lost charge, until another charge pays.
  blocked_charge_id     text,
  -- Stripe's time of the newest subscription state applied: guards against older ones.
  subscription_as_of    timestamptz,
  invoice_as_of         timestamptz,
  updated_at            timestamptz NOT NULL
);
