-- What runtimes are made of, whose is made of what, and how a fleet gets from one release to the next.

-- Image and models together. A release never changes; naming the same again finds it again.
CREATE TABLE fleet_releases (
  id             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  image          text NOT NULL,
  -- By tier, the first one primary.
  models         jsonb NOT NULL,
  created_at     timestamptz NOT NULL,
  created_by     text NOT NULL,
  -- When it last became what new tenants get.
  current_at     timestamptz,
  -- When too many failed with it, or somebody went back from it.
  failed_at      timestamptz,
  failed_reason  text,
  UNIQUE (image, models),
  CHECK ((failed_at IS NULL) = (failed_reason IS NULL))
);

CREATE TABLE fleet_settings (
  singleton               boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  -- What new tenants get. NULL while no operator has named any: then the environment of the daemons says.
  current_release_id      integer REFERENCES fleet_releases (id),
  -- What the environment of the daemon said that started last.
  environment_release_id  integer REFERENCES fleet_releases (id)
);
INSERT INTO fleet_settings DEFAULT VALUES;

-- Which release each tenant is to run. One without a row runs what new tenants get.
CREATE TABLE runtime_targets (
  tenant_id             uuid PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
  release_id            integer NOT NULL REFERENCES fleet_releases (id),
  -- The last with which its runtime was seen healthy.
  last_good_release_id  integer REFERENCES fleet_releases (id),
  -- How far the runtime has come with its release: asleep, it has taken it over and was not seen with it yet; waking, it comes
  -- up with it for the first time; good, it was seen healthy.
  state                 text NOT NULL CHECK (state IN ('set', 'asleep', 'waking', 'good')),
  state_at              timestamptz NOT NULL
);

CREATE TABLE rollouts (
  id                   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind                 text NOT NULL CHECK (kind IN ('rollout', 'rollback')),
  release_id           integer NOT NULL REFERENCES fleet_releases (id),
  status               text NOT NULL CHECK (status IN ('running', 'paused', 'halted', 'finished', 'aborted')),
  status_reason        text,
  -- Aborted: those that were moved go back.
  takes_back           boolean NOT NULL DEFAULT false,
  -- Over the whole fleet: its release is what new tenants get once it is through.
  is_whole             boolean NOT NULL,
  -- What each cohort reaches up to, as `1` or `5%`.
  cohorts              text[] NOT NULL,
  parallel             integer NOT NULL CHECK (parallel > 0),
  max_failures         integer NOT NULL CHECK (max_failures > 0),
  deadline_seconds     integer NOT NULL CHECK (deadline_seconds > 0),
  selector             jsonb NOT NULL,
  started_at           timestamptz NOT NULL,
  started_by           text NOT NULL,
  -- When it was looked at last, and since when that has not been interrupted: no deadline runs while nobody is there.
  looked_at            timestamptz NOT NULL,
  attended_since       timestamptz NOT NULL,
  ended_at             timestamptz
);
-- One at a time.
CREATE UNIQUE INDEX rollouts_open_key ON rollouts ((true)) WHERE status IN ('running', 'paused', 'halted');

-- Whom a rollout moves, in which order. No foreign key to the tenant: the record outlives a purge.
CREATE TABLE rollout_tenants (
  rollout_id           integer NOT NULL REFERENCES rollouts (id),
  tenant_id            uuid NOT NULL,
  position             integer NOT NULL,
  cohort               integer NOT NULL,
  state                text NOT NULL CHECK (state IN
                         ('pending', 'moving', 'healthy', 'moved-asleep', 'rolling-back', 'rolled-back', 'failed', 'skipped')),
  -- Where it goes when this release doesn't run; NULL before it moved, and when there is nothing to go back to.
  back_to_release_id   integer REFERENCES fleet_releases (id),
  started_at           timestamptz,
  ended_at             timestamptz,
  -- When its runtime did not come up with the release: what counts as a failure, whatever became of it.
  failed_at            timestamptz,
  reason               text,
  PRIMARY KEY (rollout_id, tenant_id)
);
CREATE INDEX rollout_tenants_open_idx ON rollout_tenants (tenant_id) WHERE state IN ('moving', 'moved-asleep', 'rolling-back');
