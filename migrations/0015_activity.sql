-- When each runtime last called the Bot API: with what it was sent and what it asked models, all that tells whether it idles.
CREATE TABLE runtime_calls (
  tenant_id  uuid PRIMARY KEY,
  at         timestamptz NOT NULL
);
