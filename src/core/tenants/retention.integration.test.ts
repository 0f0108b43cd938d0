import assert from "node:assert/strict";
import test from "node:test";
import { fixedClock } from "../platform/clock.ts";
import { createTestDatabase } from "../testing/database.ts";
import { consumeLink, createLink, createTenant, pruneRequests } from "./tenants.ts";

const HOUR_MS = 3_600_000;
const signal = new AbortController().signal;

test("links are forgotten a day after their end, however they ended, and idempotency keys after thirty days", async () => {
  await using database = await createTestDatabase();
  const { db, pool } = database;
  const clock = fixedClock(new Date("2026-03-01T12:00:00Z"));
  const ctx = { db, clock, actor: { name: "test" } };
  const count = async (table: string) => (await pool.query(`SELECT FROM ${table}`)).rowCount;
  const input = { slug: "alice", email: "alice@example.com" };
  const { tenant } = await createTenant(ctx, input, { idempotencyKey: "order-7" });
  const used = await createLink(ctx, tenant.id);
  await consumeLink(ctx, used.token, { chatId: 7, userId: 7, username: undefined });
  await createLink(ctx, tenant.id);
  await createLink(ctx, tenant.id);
  clock.advance(24 * HOUR_MS);
  const { token } = await createLink(ctx, tenant.id);
  await pruneRequests(ctx, signal);
  assert.equal(await count("link_tokens"), 4);
  clock.advance(0.25 * HOUR_MS + 1);
  await pruneRequests(ctx, signal);
  assert.equal(await count("link_tokens"), 1);
  assert.deepEqual(await consumeLink(ctx, token, { chatId: 8, userId: 8, username: undefined }), { kind: "invalid" });

  clock.advance(28 * 24 * HOUR_MS);
  await pruneRequests(ctx, signal);
  assert.equal((await createTenant(ctx, input, { idempotencyKey: "order-7" })).created, false);
  clock.advance(24 * HOUR_MS);
  await pruneRequests(ctx, signal);
  assert.deepEqual([await count("link_tokens"), await count("idempotency_keys")], [0, 0]);
  await assert.rejects(createTenant(ctx, input, { idempotencyKey: "order-7" }), /belongs to tenant alice/);
});

test("more rows than fit a batch go too", async () => {
  await using database = await createTestDatabase();
  const clock = fixedClock(new Date("2026-03-01T12:00:00Z"));
  const ctx = { db: database.db, clock, actor: { name: "test" } };
  const { tenant } = await createTenant(ctx, { slug: "alice", email: "alice@example.com" });
  await database.pool.query(
    `INSERT INTO idempotency_keys (key, tenant_id, request_hash, created_at)
     SELECT n, $1, '', $2 FROM generate_series(1, 10001) AS n`,
    [tenant.id, new Date("2026-01-01T00:00:00Z")],
  );
  await pruneRequests(ctx, signal);
  assert.equal((await database.pool.query("SELECT FROM idempotency_keys")).rowCount, 0);
});
