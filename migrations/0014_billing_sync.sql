-- How far the comparison with Stripe has come, so that one that was broken off goes on there. No row: none is under way.
CREATE TABLE billing_syncs (
  singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  started_at  timestamptz NOT NULL,
  -- The last subscription of the last page that is done.
  after_id    text
);
