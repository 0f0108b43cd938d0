-- Runtimes on Azure: what each was told to be, what was done to it, and how often Azure may be asked.

-- Which control plane this is: its mark is on everything that it makes, and it touches nothing without it.
CREATE TABLE installation (
  singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  id         uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO installation DEFAULT VALUES;

ALTER TABLE stamps
  -- New tenants go to the first that has room.
  ADD COLUMN position integer NOT NULL DEFAULT 0,
  -- NULL: any number.
  ADD COLUMN max_runtimes integer;

-- What the Azure driver was told last. No foreign key: what is left on Azure of a tenant outlives its row.
CREATE TABLE azure_runtimes (
  tenant_id     uuid PRIMARY KEY,
  stamp_id      text NOT NULL REFERENCES stamps (id),
  -- NULL once it is removed, while its state is kept.
  spec          jsonb,
  desired       text NOT NULL CHECK (desired IN ('awake', 'asleep')),
  -- Of its managed identity.
  principal_id  text,
  -- The names of the secrets that it may read, and no others: once that was settled, it need not be looked at again.
  granted       text,
  -- How many revisions were begun: a name that one ever had can't be given again.
  revisions     integer NOT NULL DEFAULT 0,
  -- Where its ingress answers, once Azure has told.
  address       text,
  updated_at    timestamptz NOT NULL
);

-- What was done to a runtime, step by step.
CREATE TABLE runtime_steps (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- NULL for what all runtimes of a stamp have in common.
  tenant_id       uuid,
  at              timestamptz NOT NULL,
  step            text NOT NULL,
  outcome         text NOT NULL CHECK (outcome IN ('done', 'deferred', 'failed')),
  -- How often in a row it came to the same: only what was put off is counted up.
  times           integer NOT NULL DEFAULT 1,
  -- From the first beginning to the last end.
  duration_ms     integer NOT NULL,
  -- Under which Azure knows the last call of the step.
  correlation_id  text,
  detail          text
);
CREATE INDEX runtime_steps_tenant_idx ON runtime_steps (tenant_id, id);
CREATE INDEX runtime_steps_at_idx ON runtime_steps (at);

-- One bucket of calls a subscription, shared by all daemons.
CREATE TABLE arm_budgets (
  subscription_id   text PRIMARY KEY,
  -- Calls that may be made at once, and how many of them by sweeps.
  tokens            double precision NOT NULL,
  sweep_tokens      double precision NOT NULL,
  refilled_at       timestamptz NOT NULL,
  -- What Azure lets through at the moment: halved when it throttles, slowly back to what is configured.
  calls_per_minute  double precision NOT NULL,
  halved_at         timestamptz,
  -- Azure asked to be left alone until then.
  blocked_until     timestamptz,
  -- Urgency → calls.
  spent             jsonb NOT NULL DEFAULT '{}',
  -- Urgency → {"since": calls of all before its first refusal, "until": when its claim to the next call lapses}.
  waiting           jsonb NOT NULL DEFAULT '{}',
  throttled         bigint NOT NULL DEFAULT 0
);
