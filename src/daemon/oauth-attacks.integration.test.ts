import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { CALENDAR, MAIL } from "../core/integrations/connect-test-setup.ts";
import { createTestDatabase } from "../core/testing/database.ts";
import { createBrowser, locationOf, openStart } from "./oauth-test-setup.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
beforeEach(() => database.pool.query("DELETE FROM tenants"));
after(() => database[Symbol.asyncDispose]());

test("a forwarded address of the sign-in page attaches nobody's account, not even when the answer is forwarded back", async (t) => {
  const { browser: attacker, start, consent, refused, bob } = await openStart(t, database.db);
  const victim = createBrowser();
  const back = await consent(attacker, start, { subject: bob.subject });
  await refused(await victim.get(back), 403, /another browser/);
  await refused(await attacker.get(back), 410, /opened before/);
});

test("a cookie that another host of the domain set is not ours, though some would trim its name until it is", async (t) => {
  const { browser, start, consent, refused } = await openStart(t, database.db);
  const back = await consent(browser, start);
  const [[name, nonce] = ["", ""]] = browser.cookies;
  browser.cookies.clear();
  // Chromium keeps such a name from any host, and sends the byte as it came.
  browser.cookies.set(`\u00a0${name}`, nonce);
  await refused(await browser.get(back), 403, /another browser/);
});

test("a forwarded link shows whose assistant it is, and another site can't press its button", async (t) => {
  const { browser, start, refused } = await openStart(t, database.db);
  for (const headers of [
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
    { "sec-fetch-site": "none" },
    { origin: "https://evil.example" },
    { origin: "null" },
  ] as Record<string, string>[])
    await refused(await browser.confirm(start, headers), 403, /did not come from our page/);
  assert.equal(browser.cookies.size, 0);
  const { rows } = await database.pool.query("SELECT (SELECT count(*) FROM oauth_states)::int AS states");
  assert.equal(rows[0].states, 0);
  assert.equal((await browser.confirm(start, { origin: new URL(start).origin })).status, 303);
});

test("an answer at another provider's door, or of another issuer, is not taken (mix-up)", async (t) => {
  const { browser, start, consent, refused, server } = await openStart(t, database.db);
  const elsewhere = await consent(browser, start);
  elsewhere.pathname = `/oauth/${CALENDAR}/callback`;
  await refused(await browser.get(elsewhere), 400, /does not fit/);
  elsewhere.pathname = `/oauth/${MAIL}/callback`;
  await refused(await browser.get(elsewhere), 410, /opened before/);
  const mixedUp = await consent(browser, start);
  mixedUp.searchParams.set("iss", "https://evil.example");
  await refused(await browser.get(mixedUp), 400, /does not fit/);
  assert.equal(server.requests.filter(({ path }) => path === "/token").length, 0);
});

test("a link for one provider opens no other, and nobody is led anywhere but to the provider", async (t) => {
  const { browser, start, refused, url, server } = await openStart(t, database.db);
  await refused(await browser.get(start.replace(MAIL, CALENDAR)), 404, /does not work/);
  await refused(await browser.confirm(start.replace(MAIL, CALENDAR)), 404, /does not work/);
  const evil = "https://evil.example";
  for (const name of ["next", "return", "redirect_uri", "url"]) {
    const { status, headers } = await browser.get(`${start}&${name}=${evil}`);
    assert.deepEqual([status, headers["location"]], [200, undefined]);
  }
  const answer = await browser.confirm(start, { "sec-fetch-site": "same-origin", host: "evil.example" });
  const location = locationOf(answer);
  assert.equal(location.origin + location.pathname, server.authorizeUrl);
  assert.equal(location.searchParams.get("redirect_uri"), `${url}/oauth/gmail/callback`);
});
