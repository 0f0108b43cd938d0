import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { ProviderId } from "../platform/ids.ts";
import { createTestDatabase } from "../testing/database.ts";
import { MAIL, NEVER, openStage, providersOf } from "./connect-test-setup.ts";
import { connectUrl, createConnectLink, hashToken } from "./connect-links.ts";
import { beginConnect } from "./consent.ts";
import { pruneConnectLinks } from "./link-store.ts";
import { findOffer } from "./offer.ts";

const DAY_MS = 86_400_000;

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
after(() => database[Symbol.asyncDispose]());

test("of a link only the hash is kept, and it holds for as long as it was made for", async (t) => {
  const { ctx, newTenant, clock } = await openStage(t, database.db);
  const { token, expiresAt } = await createConnectLink(ctx, { id: await newTenant() }, MAIL, { validMs: DAY_MS });
  assert.equal(connectUrl("https://b.example", MAIL, token), `https://b.example/oauth/gmail/start?link=${token}`);
  assert.deepEqual(expiresAt, new Date(clock.now().getTime() + DAY_MS));
  const { rows } = await database.pool.query("SELECT * FROM connect_links");
  assert.deepEqual(
    rows.map(({ token_hash }) => token_hash),
    [hashToken(token)],
  );
  assert.equal((await findOffer(ctx, MAIL, token)).kind, "offer");
  clock.advance(DAY_MS);
  assert.equal((await findOffer(ctx, MAIL, token)).kind, "link-expired");
});

test("no link is made for a provider that is not known, or has no client", async (t) => {
  const { ctx, newTenant } = await openStage(t, database.db);
  const id = await newTenant();
  const make = (provider: string, own = ctx) =>
    createConnectLink(own, { id }, provider as ProviderId, { validMs: DAY_MS });
  await assert.rejects(make("nobody"), { code: "provider_not_found" });
  const unready = ctx.providers.list().map(({ definition }) => ({ definition, client: undefined }));
  const own = { ...ctx, providers: providersOf(unready) };
  await assert.rejects(make(MAIL, own), { code: "provider_not_configured", message: /LOOPBACK_CLIENT_ID/ });
});

test("what is over is forgotten: states after a day, links after a month", async (t) => {
  const { ctx, newTenant, link, clock } = await openStage(t, database.db);
  const redirectUri = "https://b.example/oauth/gmail/callback";
  await beginConnect(ctx, MAIL, await link(await newTenant()), { redirectUri });
  const left = async () => {
    await pruneConnectLinks(ctx, NEVER);
    const { rows } = await database.pool.query(
      "SELECT (SELECT count(*) FROM connect_links)::int AS links, (SELECT count(*) FROM oauth_states)::int AS states",
    );
    return [rows[0].links > 0, rows[0].states > 0];
  };
  assert.deepEqual(await left(), [true, true]);
  clock.advance(DAY_MS + 600_001);
  assert.deepEqual(await left(), [true, false]);
  clock.advance(31 * DAY_MS);
  assert.deepEqual(await left(), [false, false]);
});
