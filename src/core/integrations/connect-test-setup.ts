import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { sql } from "kysely";
import { createOAuthClient } from "../adapters/oauth/oauth-client.ts";
import type { Provider, ProviderDefinition, Providers } from "../adapters/oauth/oauth-provider.ts";
import { definitionOf } from "../adapters/oauth/test-setup.ts";
import { createFileVault } from "../adapters/vault/file-vault.ts";
import { connectionSecretName, connectionSecretPrefix, type Vault } from "../adapters/vault/vault.ts";
import { type Clock, fixedClock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import type { ProviderId, TenantId } from "../platform/ids.ts";
import { createLog } from "../platform/log.ts";
import { createTenant } from "../tenants/tenants.ts";
import {
  ANN,
  type Decision,
  LOOPBACK_CLIENT,
  type OAuthProvider,
  type OAuthProviderOptions,
  startOAuthProvider,
} from "../testing/fakes/oauth/oauth-server.ts";
import { finishConnect } from "./connect.ts";
import { createConnectLink } from "./connect-links.ts";
import { beginConnect } from "./consent.ts";
import { listGrantsOf } from "./grant-store.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { type ConnectionKey, find } from "./store.ts";
import { readTokenSet } from "./token-set.ts";

export const MAIL = "gmail" as ProviderId;
export const CALENDAR = "google-calendar" as ProviderId;
export const NEVER = new AbortController().signal;
const REDIRECT_URI = "https://bot.example.com/oauth/gmail/callback";

/** One server, at which a mail and a calendar share one client, and as Google's do the grant, too. */
function providersAt(server: { url: string }, clock: Clock, sharesGrant: boolean): Provider[] {
  const mail = definitionOf(server, {
    id: MAIL,
    name: "Gmail",
    access: ["read, sort and send your e-mail", "move it to the bin"],
    authorizeParams: { access_type: "offline", prompt: "consent" },
    sharesGrant,
  });
  const calendar: ProviderDefinition = {
    ...mail,
    id: CALENDAR,
    name: "Google Calendar",
    scopes: ["openid", "email", "calendar.events"],
    neededScopes: ["calendar.events"],
    access: ["read and change the events in your calendars"],
  };
  return [mail, calendar].map((definition) => ready(definition, clock));
}

export function ready(definition: ProviderDefinition, clock: Clock): Provider {
  return { definition, client: createOAuthClient(definition, LOOPBACK_CLIENT, { clock, timeoutMs: 2_000 }) };
}

export function providersOf(all: readonly Provider[]): Providers {
  return { list: () => all, find: (id) => all.find(({ definition }) => definition.id === id) };
}

export type Stage = Awaited<ReturnType<typeof openStage>>;

/** A provider on loopback, a vault and tenants, and people who connect. */
export async function openStage(
  t: TestContext,
  db: Db,
  options: OAuthProviderOptions & { vault?: Vault; clock?: ReturnType<typeof fixedClock> } = {},
) {
  const clock = options.clock ?? fixedClock(new Date("2026-11-20T10:00:00Z"));
  // People of this stage alone: grants are shared by whoever has the same account.
  const ann = { ...ANN, subject: randomUUID() };
  const bob = { ...ann, subject: randomUUID(), email: "bob@example.com" };
  const manner = options.manner ?? "google";
  const server = await startOAuthProvider({ clock, people: [ann, bob], ...options, manner });
  t.after(() => server.close());
  const folder = await mkdtemp(path.join(tmpdir(), "openclaw-connect-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const vault = options.vault ?? createFileVault({ folder, key: undefined });
  const lines: string[] = [];
  const log = createLog("debug", { write: (line) => void lines.push(line) });
  const providers = providersOf(providersAt(server, clock, manner === "google"));
  const ctx: IntegrationsContext = { db, clock, actor: { name: "test" }, vault, providers, log, random: () => 0 };

  async function newTenant(): Promise<TenantId> {
    const slug = `t-${randomUUID().slice(0, 8)}`;
    const email = `${slug}@example.com`;
    return (await createTenant(ctx, { slug, displayName: `Ann of ${slug}`, email, billingExempt: true })).tenant.id;
  }

  const link = async (tenantId: TenantId, provider = MAIL, validMs = 86_400_000) =>
    (await createConnectLink(ctx, { id: tenantId }, provider, { validMs })).token;

  return {
    ctx,
    clock,
    server,
    ann,
    bob,
    vault,
    lines,
    newTenant,
    link,
    /** All of it, without a browser. */
    connect: (tenantId: TenantId, how: ConnectOptions = {}) =>
      connectThrough(ctx, server, () => link(tenantId, how.provider), how),
    find: (tenantId: TenantId, provider = MAIL) => find(db, { tenantId, provider }),
    tokens: (tenantId: TenantId, provider = MAIL) => tokensOf(ctx, { tenantId, provider }),
    /** What lies in the vault for a tenant's connections, whether they count or not. */
    secrets: (tenantId: TenantId) => vault.list(connectionSecretPrefix(tenantId)),
    ending: (tenantId: TenantId) => listGrantsOf(db, [tenantId]),
    jobs: (name: string) => waitingJobs(db, name),
  };
}

type ConnectOptions = {
  provider?: ProviderId;
  decision?: Decision;
  ctx?: IntegrationsContext;
  signal?: AbortSignal;
};

async function connectThrough(
  base: IntegrationsContext,
  server: OAuthProvider,
  newLink: () => Promise<string>,
  { provider = MAIL, decision, ctx = base, signal = NEVER }: ConnectOptions,
) {
  const begun = await beginConnect(ctx, provider, await newLink(), { redirectUri: REDIRECT_URI });
  if (begun.kind !== "begun") throw new Error(`it can't be begun: ${begun.kind}`);
  const { searchParams: answer } = server.consent(begun.url, decision);
  const { state, nonce } = begun;
  return finishConnect(ctx, provider, { answer, state, nonce, redirectUri: REDIRECT_URI, signal });
}

/** The newest of a connection, as it is now, that lie in the vault. */
async function tokensOf({ db, vault }: IntegrationsContext, { tenantId, provider }: ConnectionKey) {
  const { grantId } = (await find(db, { tenantId, provider })) ?? {};
  if (grantId === undefined) return undefined;
  const text = await vault.get(connectionSecretName(tenantId, provider, grantId));
  return text === undefined ? undefined : readTokenSet(text);
}

async function waitingJobs(db: Db, name: string): Promise<Record<string, unknown>[]> {
  const { rows } = await sql<{ payload: Record<string, unknown> }>`
    SELECT payload FROM graphile_worker._private_jobs AS jobs
    JOIN graphile_worker._private_tasks AS tasks ON tasks.id = jobs.task_id
    WHERE tasks.identifier = ${name} ORDER BY jobs.id`.execute(db);
  return rows.map(({ payload }) => payload);
}
