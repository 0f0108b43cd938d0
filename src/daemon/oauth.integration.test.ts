import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { after, before, beforeEach, test, type TestContext } from "node:test";
import { CALENDAR, MAIL, providersOf } from "../core/integrations/connect-test-setup.ts";
import { disconnect } from "../core/integrations/integrations.ts";
import { createPool, createDb } from "../core/platform/db.ts";
import { createTestDatabase } from "../core/testing/database.ts";
import { locationOf, openStart, type PageOptions } from "./oauth-test-setup.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
before(async () => {
  database = await createTestDatabase();
});
beforeEach(() => database.pool.query("DELETE FROM tenants"));
after(() => database[Symbol.asyncDispose]());

const setUp = (t: TestContext, options?: PageOptions) => openStart(t, database.db, options);

test("a person opens the link, confirms, consents and reads that the account is connected", async (t) => {
  const { browser, start, server, find, tokens, tenantId, consent, ann, lines } = await setUp(t);
  const offer = await browser.get(start);
  assert.equal(offer.status, 200);
  assert.match(offer.html, /<h1>Connect Gmail<\/h1>/);
  assert.match(offer.html, /Ann of t-/);
  assert.match(offer.html, /<li>read, sort and send your e-mail<\/li>/);
  assert.equal(browser.cookies.size, 0);

  const back = await consent(browser, start);
  assert.equal(browser.cookies.size, 1);
  const result = await browser.get(back);
  assert.equal(result.status, 200);
  assert.match(result.html, /<h1>Gmail is connected<\/h1>/);
  assert.ok(result.html.includes(ann.email));
  assert.equal(browser.cookies.size, 0);
  assert.equal((await find(tenantId))?.state, "active");
  const { accessToken = "", refreshToken } = (await tokens(tenantId)) ?? {};
  assert.equal(server.holderOf(accessToken)?.person.email, ann.email);

  // What was kept and said tells none of it.
  const { rows } = await database.pool.query("SELECT * FROM oauth_states, connect_links, connections");
  const told = JSON.stringify([rows, lines, result.html, offer.headers, result.headers]);
  const [exchange] = server.requests.filter(({ path }) => path === "/token");
  const secrets = [accessToken, refreshToken, ...back.searchParams.values(), exchange?.parameters.get("code_verifier")];
  for (const secret of secrets.filter((value) => value !== server.url)) assert.ok(!told.includes(String(secret)));
});

test("every page is plain: nothing is loaded, nothing runs, nobody may frame or keep it", async (t) => {
  const { browser, start, url, consent } = await setUp(t);
  const answers = [
    await browser.get(start),
    await browser.get(`${url}/oauth/gmail/start`),
    await browser.get(`${url}/oauth/unknown/start`),
    await browser.get(`${url}/oauth/gmail/callback`),
    await browser.get(await consent(browser, start)),
    await browser.confirm(start),
  ];
  for (const { headers, html } of answers) {
    const policy = String(headers["content-security-policy"]);
    const [, style] = /<style>(.*)<\/style>/s.exec(html) ?? [];
    if (style !== undefined) assert.ok(policy.includes(`'sha256-${hash("sha256", style, "base64")}'`));
    for (const part of ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"])
      assert.ok(policy.includes(part));
    assert.deepEqual(
      [headers["cache-control"], headers["x-content-type-options"], headers["referrer-policy"]],
      ["no-store", "nosniff", "same-origin"],
    );
    assert.match(String(headers["x-request-id"]), /^[0-9a-f-]{36}$/);
    assert.doesNotMatch(html, /<script|<img|<link|\son\w+=|javascript:|style="/i);
  }
});

test("what people are called is shown, not obeyed", async (t) => {
  const { browser, start, tenantId } = await setUp(t);
  const name = `<script>alert(1)</script>"'&`;
  await database.pool.query("UPDATE tenants SET display_name = $2 WHERE id = $1", [tenantId, name]);
  const { html } = await browser.get(start);
  assert.ok(html.includes("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
  assert.ok(!html.includes("<script"));
});

test("looking at a link, however often and by whomever, consumes nothing", async (t) => {
  const { browser, start, consent } = await setUp(t);
  for (let round = 0; round < 3; round++) {
    assert.equal((await browser.get(start)).status, 200);
    assert.equal((await browser.head(start)).status, 200);
  }
  const { rows } = await database.pool.query("SELECT (SELECT count(*) FROM oauth_states)::int AS states");
  assert.equal(rows[0].states, 0);
  const back = await consent(browser, start);
  assert.equal((await browser.head(back)).status, 405);
  assert.match((await browser.get(back)).html, /is connected/);
});

test("a link is used up by a connection, and says so; a newer one takes the place of those before", async (t) => {
  const { browser, start, consent, newLink, tenantId, clock } = await setUp(t);
  const [first, second] = [await consent(browser, start), await consent(browser, start)];
  assert.match((await browser.get(first)).html, /is connected/);
  const late = await browser.get(second);
  assert.deepEqual([late.status, /used already/.test(late.html)], [410, true]);
  for (const answer of [await browser.get(start), await browser.confirm(start)]) assert.equal(answer.status, 410);

  const older = await newLink(tenantId);
  const newer = await newLink(tenantId);
  assert.match((await browser.get(older)).html, /There is a newer link/);
  assert.match((await browser.get(newer)).html, /At present <strong>ann@example\.com<\/strong> is connected/);
  clock.advance(86_400_000);
  const expired = await browser.get(newer);
  assert.deepEqual([expired.status, /too old/.test(expired.html)], [410, true]);
});

test("whoever disconnects ends the links and consents that are open, and the page says so", async (t) => {
  const { ctx, browser, start, consent, newLink, tenantId, secrets, server } = await setUp(t);
  await browser.get(await consent(browser, start));
  const [open, calendar] = [await newLink(tenantId), await newLink(tenantId, CALENDAR)];
  const underWay = await consent(browser, open);
  const key = { tenantId, provider: MAIL };
  assert.deepEqual(await disconnect(ctx, key, { reason: "asked", askedBy: "operator" }), { revocation: "revoked" });
  for (const answer of [await browser.get(open), await browser.confirm(open), await browser.get(underWay)])
    assert.deepEqual([answer.status, /no longer holds.*was disconnected after/s.test(answer.html)], [410, true]);
  assert.deepEqual(await secrets(tenantId), []);
  assert.equal(server.requests.filter(({ path }) => path === "/token").length, 1);
  assert.equal((await browser.get(calendar)).status, 200);
  assert.match((await browser.get(await consent(browser, await newLink(tenantId)))).html, /is connected/);
});

test("a state counts once: replayed, twice at once, too late or never given out, it is refused", async (t) => {
  const { browser, start, consent, refused, url, clock, server } = await setUp(t);
  const expired = await consent(browser, start);
  clock.advance(600_000);
  await refused(await browser.get(expired), 410, /took too long/);
  await refused(await browser.get(`${url}/oauth/gmail/callback?code=x&state=${"A".repeat(43)}`), 400, /anything begun/);
  const tampered = await consent(browser, start);
  const state = tampered.searchParams.get("state") ?? "";
  tampered.searchParams.set("state", `${state.startsWith("A") ? "B" : "A"}${state.slice(1)}`);
  await refused(await browser.get(tampered), 400, /anything begun/);
  for (const query of ["", "?state=", "?state=%ff%fe", "?state=a&state=b", `?state=${"A".repeat(9_000)}`])
    await refused(
      await browser.get(`${url}/oauth/gmail/callback?code=x${query.replace("?", "&")}`),
      400,
      /anything begun/,
    );
  assert.equal(server.requests.filter(({ path }) => path === "/token").length, 0);

  const back = await consent(browser, start);
  const own = new Map(browser.cookies);
  const answers = await Promise.all([browser.get(back), browser.get(back)]);
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200, 410]));
  for (const [name, value] of own) browser.cookies.set(name, value);
  const replayed = await browser.get(back);
  assert.deepEqual([replayed.status, /opened before/.test(replayed.html)], [410, true]);
  assert.equal(server.requests.filter(({ path }) => path === "/token").length, 1);
});

test("two at once in one browser don't disturb each other", async (t) => {
  const { browser, start, newLink, consent, tenantId } = await setUp(t);
  const calendar = await newLink(tenantId, CALENDAR);
  const backs = [await consent(browser, start), await consent(browser, calendar)];
  assert.equal(browser.cookies.size, 2);
  for (const back of backs) assert.equal((await browser.get(back)).status, 200);
});

test("what is no form, too large, or of no known provider is refused on a page", async (t) => {
  const { browser, start, refused, url } = await setUp(t);
  const json = { "content-type": "application/json", "sec-fetch-site": "same-origin" };
  await refused(await browser.confirm(start, json), 415, /could not be understood/);
  const large = `${start}${"A".repeat(5_000)}`;
  await refused(await browser.confirm(large), 413, /could not be understood/);
  await refused(await browser.get(`${url}/oauth/unknown/start?link=x`), 404, /There is nothing here/);
  await refused(await browser.get(`${url}/oauth/gmail/start?link=%ff&link=x`), 404, /does not work/);
  await refused(await browser.get(`${url}/oauth/gmail/start`), 404, /does not work/);
});

test("whoever begins again and again is asked to wait", async (t) => {
  const { browser, start, consent, refused, clock } = await setUp(t);
  for (let round = 0; round < 10; round++) assert.equal((await browser.confirm(start)).status, 303);
  // Neither does it help to end each at once.
  for (let round = 0; round < 10; round++)
    assert.equal((await browser.get(await consent(browser, start, { deny: true }))).status, 403);
  await refused(await browser.confirm(start), 429, /too often/);
  clock.advance(600_000);
  assert.equal((await browser.confirm(start)).status, 303);
});

test("a person who declines, or unticks what is needed, reads what that means", async (t) => {
  const { browser, start, consent, refused, server } = await setUp(t);
  await refused(await browser.get(await consent(browser, start, { deny: true })), 403, /Access was not given/);
  const partly = await browser.get(await consent(browser, start, { scopes: ["openid", "email"] }));
  await refused(partly, 403, /Some access is missing/);
  assert.match(partly.html, /What was missing: mail\.modify</);
  server.failNext("token", { status: 503 });
  await refused(await browser.get(await consent(browser, start)), 502, /Gmail does not answer/);
  server.failNext("token", { status: 401, body: '{"error":"invalid_client"}' });
  await refused(await browser.get(await consent(browser, start)), 503, /can&#39;t be connected at present/);
});

test("without a client the page says whose turn it is, and a tenant that goes away says so", async (t) => {
  const { browser, start, refused, ctx, serve, tenantId, consent } = await setUp(t);
  const unready = ctx.providers.list().map(({ definition }) => ({ definition, client: undefined }));
  const other = await serve({ ...ctx, providers: providersOf(unready) });
  const answer = await browser.get(start.replace(/^http:\/\/[^/]+/, other));
  await refused(answer, 503, /Gmail can&#39;t be connected yet/);
  const back = await consent(browser, start);
  await database.pool.query("UPDATE tenants SET status = 'deprovisioning' WHERE id = $1", [tenantId]);
  await refused(await browser.get(back), 410, /switched off/);
  await refused(await browser.get(start), 410, /switched off/);
});

test("what fails here is an apology with a number, and nothing internal", async (t) => {
  const { browser, start, ctx, serve, refused, lines } = await setUp(t);
  const pool = createPool({
    url: "postgres://nobody@127.0.0.1:1/x",
    max: 1,
    applicationName: "t",
    onIdleError: () => undefined,
  });
  t.after(() => pool.end());
  const broken = await serve({ ...ctx, db: createDb(pool) });
  const answer = await browser.get(start.replace(/^http:\/\/[^/]+/, broken));
  await refused(answer, 503, /went wrong here/);
  assert.ok(answer.html.includes(String(answer.headers["x-request-id"])));
  assert.doesNotMatch(answer.html, /127\.0\.0\.1|ECONNREFUSED|postgres/);
  const token = new URL(start).searchParams.get("link") ?? "";
  assert.ok(lines.some((line) => line.includes("/oauth/:provider/start")) && !lines.join().includes(token));
});

test("what one daemon began another finishes, and a cookie on https is the host's alone (F71)", async (t) => {
  const { browser, start, ctx, serve, tenantId, find, server } = await setUp(t);
  const publicUrl = "HTTPS://bot.example.com/claw";
  const pool = createPool({ url: database.url, max: 2, applicationName: "other", onIdleError: () => undefined });
  t.after(() => pool.end());
  const [one, other] = [await serve(ctx, publicUrl), await serve({ ...ctx, db: createDb(pool) }, publicUrl)];
  const began = await browser.confirm(start.replace(/^http:\/\/[^/]+/, one));
  assert.match(
    String(began.headers["set-cookie"]),
    /^__Host-openclaw-connect-[0-9a-f]{16}=[\w-]{43}; Max-Age=600; Path=\/; HttpOnly; SameSite=Lax; Secure$/,
  );
  const back = server.consent(locationOf(began));
  assert.equal(back.origin + back.pathname, "https://bot.example.com/claw/oauth/gmail/callback");
  const answer = await browser.get(back.href.replace(`${back.origin}/claw`, other));
  assert.match(answer.html, /is connected/);
  assert.match(String(answer.headers["set-cookie"]), /^__Host-\S+=; Max-Age=0; /);
  assert.equal((await find(tenantId))?.state, "active");
});
