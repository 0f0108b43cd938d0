import assert from "node:assert/strict";
import { createServer } from "node:net";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import type { TestContext } from "node:test";
import { readProviders } from "../src/core/adapters/oauth/providers.ts";
import { connectUrl, createConnectLink } from "../src/core/integrations/integrations.ts";
import { systemClock } from "../src/core/platform/clock.ts";
import { loadConfig } from "../src/core/platform/config.ts";
import type { ProviderId, TenantId } from "../src/core/platform/ids.ts";
import { createTenant, getTenant } from "../src/core/tenants/tenants.ts";
import type { NewTenantInput } from "../src/core/tenants/tenant-input.ts";
import { createTestDatabase } from "../src/core/testing/database.ts";
import {
  type Decision,
  type OAuthProviderOptions,
  startOAuthProvider,
} from "../src/core/testing/fakes/oauth/oauth-server.ts";
import { until } from "../src/core/router/test-setup.ts";
import { startTelegramServer } from "../src/core/testing/fakes/telegram-server.ts";
import { undoAfter } from "./cleanup.ts";
import { openFolder, temporaryFolder } from "./command.ts";
import { call, startDaemon } from "./daemon-process.ts";

const BOT_TOKEN = "4242:loopback-bot-token";
export const CLIENT = { id: "openclaw-client", secret: "client-secret-of-openclaw" };

/** A database, a bot and a provider on loopback that stands for Google, and what daemons and commands need to work with them. */
export async function openIntegrationsStage(t: TestContext, rules: OAuthProviderOptions = {}) {
  const database = await createTestDatabase();
  undoAfter(t, () => database[Symbol.asyncDispose]());
  const telegram = await startTelegramServer({ token: BOT_TOKEN });
  undoAfter(t, () => telegram.close());
  const provider = await startOAuthProvider({ clients: [CLIENT], manner: "google", ...rules });
  undoAfter(t, () => provider.close());
  const folder = await temporaryFolder(t);
  const { url: issuer, authorizeUrl, tokenUrl, revokeUrl } = provider;
  const own = ["gmail", "google-calendar"].map((id) => ({ id, issuer, authorizeUrl, tokenUrl, revokeUrl }));
  const file = path.join(folder, "providers.json");
  await writeFile(file, JSON.stringify({ providers: own }));
  const listen = `127.0.0.1:${await freePort()}`;
  const env = {
    DATABASE_URL: database.url,
    OPENCLAW_DATA_DIR: path.join(folder, "data"),
    OPENCLAW_PUBLIC_URL: `http://${listen}`,
    OPENCLAW_PROVIDERS_FILE: file,
    GOOGLE_CLIENT_ID: CLIENT.id,
    GOOGLE_CLIENT_SECRET: CLIENT.secret,
    TELEGRAM_API_ROOT: telegram.url,
    TELEGRAM_BOT_TOKEN: BOT_TOKEN,
    TELEGRAM_WEBHOOK_SECRET: "webhook-secret",
  };
  const openclaw = await openFolder(t, env);

  const { config, secrets } = loadConfig(env);
  const providers = await readProviders({ config, secrets });
  const ctx = { db: database.db, clock: systemClock, actor: { name: "test" }, providers };

  async function addTenant(slug: string, more: Partial<NewTenantInput> = {}): Promise<TenantId> {
    return (await createTenant(ctx, { slug, email: `${slug}@example.com`, ...more })).tenant.id;
  }

  /** As somebody does who was given a link. */
  async function connect(slug: string, name: string, decision: Decision = {}): Promise<Followed> {
    const tenant = await getTenant(ctx.db, slug);
    const id = name as ProviderId;
    const { token } = await createConnectLink(ctx, tenant, id, { validMs: 60_000 });
    return follow(connectUrl(env.OPENCLAW_PUBLIC_URL, id, token), decision);
  }

  /** Through the pages, in a browser that keeps its cookie. */
  async function follow(link: string, decision: Decision = {}): Promise<Followed> {
    const { origin, pathname, searchParams } = new URL(link);
    const token = searchParams.get("link") ?? "";
    expectStatus(await call(link), 200);
    const body = new URLSearchParams({ link: token }).toString();
    const headers = { "content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin" };
    const begun = await call(origin + pathname, { method: "POST", headers, body });
    expectStatus(begun, 303);
    const cookie = String(begun.headers["set-cookie"]).split(";")[0] ?? "";
    const location = String(begun.headers.location);
    const back = provider.consent(new URL(location), decision);
    const finished = await call(back.href, { headers: { cookie } });
    return { page: finished.text, back, cookie, secrets: secretsIn(new URL(link), new URL(location), back, cookie) };
  }

  return {
    database,
    telegram,
    provider,
    env,
    openclaw,
    addTenant,
    connect,
    follow,
    until,
    openFolder: (env: Record<string, string>) => openFolder(t, env),
    dataDir: env.OPENCLAW_DATA_DIR,
    /** The first one; others have no pages. */
    startDaemon: (more: Record<string, string> = {}) =>
      startDaemon(t, { ...env, OPENCLAW_PUBLIC_LISTEN: listen, ...more }),
    startAnother: (more: Record<string, string> = {}) =>
      startDaemon(t, { ...env, ...more }, ["--roles", "gateway,worker"]),
  };
}

/** What a browser went through, and all that it got hold of and nobody else may know. */
export type Followed = { page: string; back: URL; cookie: string; secrets: Map<string, string> };

function secretsIn(link: URL, authorize: URL, back: URL, cookie: string): Map<string, string> {
  const found: [secret: string | null | undefined, kind: string][] = [
    [link.searchParams.get("link"), "a link's token"],
    [authorize.searchParams.get("state"), "a state"],
    [authorize.searchParams.get("nonce"), "the nonce of an id token"],
    [cookie.split("=")[1], "a cookie's nonce"],
    [back.searchParams.get("code"), "a code"],
  ];
  return new Map(found.flatMap(([secret, kind]) => (secret == null || secret === "" ? [] : [[secret, kind] as const])));
}

function expectStatus({ status, text }: { status: number; text: string }, wanted: number): void {
  assert.equal(status, wanted, text);
}

/** Known before anybody listens there, for an address that is part of the configuration. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  assert.ok(typeof address === "object" && address !== null);
  return address.port;
}
