import assert from "node:assert/strict";
import { hash, randomUUID } from "node:crypto";
import test, { type TestContext } from "node:test";
import type { OAuthClient, Providers } from "../adapters/oauth/oauth-provider.ts";
import { definitionOf, UNCALLED_CLIENT } from "../adapters/oauth/test-setup.ts";
import { createBotApi } from "../adapters/telegram/bot-api.ts";
import type { ConnectionNews } from "../integrations/integrations.ts";
import type { ProviderId, TenantId } from "../platform/ids.ts";
import { unlinkChat } from "../tenants/tenants.ts";
import { closeChat } from "./closed-chats.ts";
import { createConnectLinks, tellConnectionNews } from "./connection-news.ts";
import { setUp } from "./test-setup.ts";

const GMAIL = "gmail" as ProviderId;
const CHAT = 7;
const definition = definitionOf(
  { url: "https://accounts.example.com" },
  {
    id: GMAIL,
    name: "Gmail",
    client: "google",
    scopes: ["mail", "email"],
    neededScopes: ["mail"],
    access: ["read your e-mail", "send e-mail as you"],
  },
);
const providers = providersWith(UNCALLED_CLIENT);

function providersWith(client: OAuthClient | undefined): Providers {
  const gmail = { definition, client };
  return { list: () => [gmail], find: (id) => (id === GMAIL ? gmail : undefined) };
}

/** A tenant with a chat, whose Gmail is connected. */
async function open(t: TestContext, change: { state?: "active" | "expired"; scopes?: string[] } = {}) {
  const stage = await setUp(t);
  const tenantId = await stage.addTenant(CHAT, null);
  const grantId = randomUUID();
  let links = 0;
  const ctx = {
    ...stage,
    providers,
    connectLinks: async () => `https://bot.example.com/oauth/gmail/start?link=${(links += 1)}`,
  };
  const row = connectionOf(tenantId, grantId, stage.clock.now());
  await stage.db
    .insertInto("connections")
    .values({ ...row, ...change })
    .execute();
  const news = (kind: ConnectionNews["news"]): ConnectionNews => ({ tenantId, provider: GMAIL, grantId, news: kind });
  const told = () => stage.telegram.messages(CHAT).map(({ text }) => text ?? "");
  return { ...stage, ctx, tenantId, news, told, links: () => links };
}

function connectionOf(tenantId: TenantId, grantId: string, now: Date) {
  return {
    tenantId,
    provider: GMAIL,
    state: "active" as const,
    stateChangedAt: now,
    grantId,
    client: "google",
    accountSubject: "1",
    accountEmail: "alice@example.com",
    scopes: ["mail", "email"],
    connectedAt: now,
    secretVersion: "1",
    secretFence: 1,
    hasRefreshToken: true,
  };
}

test("the linked chat is told once which account was connected, and what the assistant can do with it", async (t) => {
  const { ctx, news, told, links } = await open(t);
  for (let run = 0; run < 3; run += 1) await tellConnectionNews(ctx, news("connected"));
  assert.deepEqual(told(), [
    "Gmail is connected: alice@example.com. Your assistant can now read your e-mail and send e-mail as you." +
      "\n\nIf that wasn't you, please contact support.",
  ]);
  assert.equal(links(), 0);
});

test("who granted only a part is told that some of it won't work", async (t) => {
  const { ctx, news, told } = await open(t, { scopes: ["mail"] });
  await tellConnectionNews(ctx, news("connected"));
  assert.match(told().join(), /^Gmail is connected: alice@example.com. Not everything .* was allowed/);
});

test("who has to connect again is told once, with a link that is made when it is sent", async (t) => {
  const { ctx, news, told, links } = await open(t, { state: "expired" });
  for (let run = 0; run < 3; run += 1) await tellConnectionNews(ctx, news("expired"));
  assert.deepEqual(told(), [
    "Gmail has to be connected again: your assistant's access to alice@example.com has ended." +
      "\n\nConnect it here: https://bot.example.com/oauth/gmail/start?link=1\n\nThe link holds for seven days.",
  ]);
  assert.equal(links(), 1);
});

test("the link leads to this service for a week, and only its hash is kept", async (t) => {
  const { ctx, db, clock, news, told } = await open(t, { state: "expired" });
  const connectLinks = createConnectLinks({ ...ctx, publicUrl: "https://bot.example.com" });
  await tellConnectionNews({ ...ctx, connectLinks }, news("expired"));
  const [, token = ""] =
    /https:\/\/bot\.example\.com\/oauth\/gmail\/start\?link=([\w-]{43})\n/.exec(told().join()) ?? [];
  const links = await db.selectFrom("connectLinks").select(["tokenHash", "expiresAt"]).execute();
  const expiresAt = new Date(clock.now().getTime() + 7 * 24 * 3_600_000);
  assert.deepEqual(links, [{ tokenHash: hash("sha256", token, "buffer"), expiresAt }]);
});

test("where there is no client for the provider any more, the words say to ask for a link", async (t) => {
  const { ctx, news, told } = await open(t, { state: "expired" });
  const own = { ...ctx, providers: providersWith(undefined) };
  const connectLinks = createConnectLinks({ ...own, publicUrl: "https://bot.example.com" });
  await tellConnectionNews({ ...own, connectLinks }, news("expired"));
  assert.match(told().join(), /Please ask for a link to connect it\.$/);
});

test("where nobody knows the address of this service, the words say to ask for a link", async (t) => {
  const { ctx, news, told } = await open(t, { state: "expired" });
  const connectLinks = createConnectLinks({ ...ctx, publicUrl: undefined });
  await tellConnectionNews({ ...ctx, connectLinks }, news("expired"));
  assert.match(told().join(), /Please ask for a link to connect it\.$/);
});

test("what is no longer so is not told: another grant, another state, a connection or a tenant that is gone", async (t) => {
  const { ctx, db, tenantId, news, told, links } = await open(t);
  await tellConnectionNews(ctx, news("expired"));
  await tellConnectionNews(ctx, { ...news("connected"), grantId: randomUUID() });
  await db.updateTable("tenants").set({ status: "deprovisioning" }).execute();
  await tellConnectionNews(ctx, news("connected"));
  await db.updateTable("tenants").set({ status: "active" }).execute();
  for (const state of ["expired", "revoked"] as const) {
    await db.updateTable("connections").set({ state }).execute();
    await tellConnectionNews(ctx, news("connected"));
  }
  await db.deleteFrom("tenants").where("id", "=", tenantId).execute();
  for (const kind of ["connected", "expired"] as const) await tellConnectionNews(ctx, news(kind));
  assert.deepEqual([told(), links()], [[], 0]);
});

test("a closed chat, and a tenant without a chat, are passed over", async (t) => {
  const { ctx, tenantId, news, told, links } = await open(t, { state: "expired" });
  await closeChat(ctx, CHAT);
  await tellConnectionNews(ctx, news("expired"));
  await unlinkChat(ctx, tenantId);
  await tellConnectionNews(ctx, news("expired"));
  assert.deepEqual([told(), links()], [[], 0]);
});

test("while Telegram can't be reached, or no link can be made, it is tried again and told then", async (t) => {
  const { ctx, news, told } = await open(t, { state: "expired" });
  const away = createBotApi({ apiRoot: "http://127.0.0.1:9", token: "4242:secret" });
  t.after(() => away.close());
  await assert.rejects(tellConnectionNews({ ...ctx, botApi: away }, news("expired")), { code: "not_told" });
  const noLink = () => Promise.reject(new Error("the database went away"));
  await assert.rejects(tellConnectionNews({ ...ctx, connectLinks: noLink }, news("expired")), /went away/);
  await tellConnectionNews(ctx, news("expired"));
  assert.equal(told().length, 1);
});
