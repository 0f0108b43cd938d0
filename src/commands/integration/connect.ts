import { setTimeout as delay } from "node:timers/promises";
import { Command } from "commander";
import type { Providers } from "../../core/adapters/oauth/oauth-provider.ts";
import { openProviders, type Store } from "../../core/context.ts";
import {
  type Connection,
  type ConnectionView,
  connectUrl,
  createConnectLink,
  findConnection,
  viewConnections,
} from "../../core/integrations/integrations.ts";
import type { Config } from "../../core/platform/config.ts";
import { listDaemons } from "../../core/platform/daemons.ts";
import { ConfigError, TimeoutError } from "../../core/platform/errors.ts";
import type { ProviderId } from "../../core/platform/ids.ts";
import { getTenant, type Tenant } from "../../core/tenants/tenants.ts";
import { printJson, printLine, say } from "../output.ts";
import { drawQrCode } from "../qr-code.ts";
import { withStore } from "../session.ts";
import { numberFrom, patience } from "../tenant/options.ts";
import { formatTime } from "../tenant/view.ts";
import { providerNotFound } from "./choice.ts";

const HOUR_MS = 60 * 60_000;
const MAX_HOURS = 30 * 24;
const POLL_MS = 500;

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .argument("<provider>", "as `openclaw integration providers` shows them")
    .option("--valid-for <hours>", `how long the link holds, ${MAX_HOURS} at most`, numberFrom(1, MAX_HOURS), 24)
    .option("--wait", "until an account was connected by it")
    .option("--timeout <seconds>", "how long to wait", patience, 900)
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nThe link is for whoever the tenant is: it shows what the assistant gets, and asks.\n\nExample:\n  openclaw integration connect alice gmail --wait",
    )
    .action(async (reference: string, name: string, { validFor, wait, timeout, json }) =>
      withStore(async (store) => {
        const tenant = await getTenant(store.db, reference);
        const ctx = { ...store, providers: await openProviders(store) };
        const provider = requireProvider(ctx.providers, name);
        const publicUrl = requirePublicUrl(store.config.http);
        const before = await findConnection(store.db, { tenantId: tenant.id, provider });
        const { token, expiresAt } = await createConnectLink(ctx, tenant, provider, { validMs: validFor * HOUR_MS });
        const url = connectUrl(publicUrl, provider, token);
        const offer = { tenant: tenant.slug, provider, url, expiresAt };
        if (json && !wait) return printJson(offer);
        if (json) say(url);
        else printLine(url);
        await drawQrCode(url);
        await sayMore(store, tenant, { provider, expiresAt, before });
        if (!wait) return;
        say("Waiting until an account is connected. Ctrl-C ends the waiting, not the link.");
        const connected = await waitUntilConnected(ctx, tenant, provider, {
          before: before?.grantId,
          timeoutMs: timeout * 1_000,
        });
        if (json) return printJson({ ...offer, connection: connected });
        sayConnected(connected);
      }),
    );
}

/** What somebody should know before handing the link on. */
async function sayMore(
  { pool }: Store,
  { slug }: Tenant,
  { provider, expiresAt, before }: { provider: ProviderId; expiresAt: Date; before: Connection | undefined },
): Promise<void> {
  say(`It connects ${provider} to ${slug}, once, until ${formatTime(expiresAt)}. A newer link ends it.`);
  if (before !== undefined && before.state !== "revoked")
    say(
      `${slug} is connected to it already (${before.accountEmail ?? "account unknown"}): the new one takes its place.`,
    );
  if (!(await listDaemons(pool)).some(({ roles }) => roles.includes("web")))
    say("No daemon is running that would open it; start one with: openclaw daemon");
}

/** @throws NotFoundError */
function requireProvider(providers: Providers, name: string): ProviderId {
  const provider = providers.find(name);
  if (provider === undefined) throw providerNotFound(name, providers);
  return provider.definition.id;
}

/** Where people reach the daemon's pages. @throws ConfigError when nothing says. */
function requirePublicUrl({ publicUrl, publicListen: { port } }: Config["http"]): string {
  if (publicUrl !== undefined) return publicUrl;
  throw new ConfigError("public_url_missing", [
    `OPENCLAW_PUBLIC_URL is not set, so that the link would lead nowhere; expected https://bot.example.com, or for a try on this machine http://127.0.0.1:${port}`,
  ]);
}

type WaitContext = Store & { providers: Providers };

/**
 * Waits for a connection that was made since `before`, by whichever link.
 * @throws TimeoutError when there is none in time; the link holds on.
 */
async function waitUntilConnected(
  ctx: WaitContext,
  tenant: Tenant,
  provider: ProviderId,
  { before, timeoutMs }: { before: string | undefined; timeoutMs: number },
): Promise<ConnectionView> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const present = await findConnection(ctx.db, { tenantId: tenant.id, provider });
    if (present !== undefined && present.grantId !== before && present.state !== "revoked") {
      const views = await viewConnections(ctx, [tenant]);
      const found = views.find((view) => view.provider === provider);
      if (found !== undefined) return found;
    }
    if (performance.now() >= deadline) {
      const message = `Nobody has connected ${provider} to ${tenant.slug} within ${timeoutMs / 1_000} s; the link goes on to hold.`;
      throw new TimeoutError("wait_timeout", message);
    }
    await delay(POLL_MS);
  }
}

function sayConnected({ tenant, provider, account, missingScopes: missing }: ConnectionView): void {
  say(`${provider} is connected to ${tenant}${account === null ? "" : `: ${account}`}.`);
  if (missing.length > 0) say(`Not granted: ${missing.join(" ")}`);
}
