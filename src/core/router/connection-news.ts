import type { ProviderDefinition, Providers } from "../adapters/oauth/oauth-provider.ts";
import type { BotApi } from "../adapters/telegram/bot-api.ts";
import {
  type ConnectionNews,
  connectUrl,
  createConnectLink,
  findConnectionOfNews,
  missingScopes,
} from "../integrations/integrations.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { OpenClawError, UpstreamError } from "../platform/errors.ts";
import type { ProviderId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import { findTenantById, type Tenant, type TenantsContext } from "../tenants/tenants.ts";
import { createSpeaker } from "./speaker.ts";
import { TEXTS } from "./texts.ts";

/** A link by which a subscriber connects; undefined where nobody knows under which address this service is reached. */
export type ConnectLinks = (tenant: Tenant, providerId: ProviderId) => Promise<string | undefined>;

const LINK_MS = 7 * 24 * 60 * 60_000;

export function createConnectLinks(
  ctx: TenantsContext & { providers: Providers; log: Log; publicUrl: string | undefined },
): ConnectLinks {
  const { publicUrl } = ctx;
  if (publicUrl === undefined) return async () => undefined;
  return async ({ id }, providerId) => {
    try {
      const { token } = await createConnectLink(ctx, { id }, providerId, { validMs: LINK_MS });
      return connectUrl(publicUrl, providerId, token);
    } catch (error) {
      // What is said is said without it: there may be no client for the provider any more.
      if (!(error instanceof OpenClawError)) throw error;
      ctx.log.warn({ error, tenantId: id, provider: providerId }, "a link to connect could not be made");
      return undefined;
    }
  };
}

type NewsContext = {
  db: Db;
  clock: Clock;
  log: Log;
  botApi: BotApi | undefined;
  providers: Providers;
  connectLinks: ConnectLinks;
};

/** Longer than a job is tried again after it has said something: the same is never news again for one grant. */
const SAID_FOR_MS = 24 * 60 * 60_000;

/**
 * Tells a subscriber what became of a connection, once for each grant, if it is still so. The link in it is made only when it is
 * sent, so that nothing that is kept holds one.
 * @throws UpstreamError while Telegram can't be reached: it is worth another try.
 */
export async function tellConnectionNews(ctx: NewsContext, news: ConnectionNews): Promise<void> {
  const connection = await findConnectionOfNews(ctx.db, news);
  const tenant = await findTenantById(ctx.db, news.tenantId);
  if (connection === undefined || tenant === undefined || tenant.telegramChatId === null) return;
  // Its connections rest until it is restored.
  if (tenant.status === "deprovisioning" || tenant.status === "deleted") return;
  const definition = ctx.providers.find(news.provider)?.definition;
  const name = definition?.name ?? news.provider;
  const { accountEmail: account } = connection;
  const text = async () =>
    news.news === "connected"
      ? TEXTS.connected(name, account, accessOf(definition, connection.scopes))
      : TEXTS.expired(name, account, await ctx.connectLinks(tenant, news.provider));
  const topic = `connection:${news.news}:${news.grantId}`;
  const said = await createSpeaker(ctx).say(tenant.telegramChatId, topic, SAID_FOR_MS, text);
  if (said === "later") {
    const options = { service: "telegram", retryable: true };
    throw new UpstreamError("not_told", "Telegram can't be reached; the news is told later.", options);
  }
}

/** What the assistant can do now, as far as that is known. */
function accessOf(definition: ProviderDefinition | undefined, granted: readonly string[]) {
  if (definition === undefined) return { can: [], isPart: false };
  return { can: definition.access, isPart: missingScopes(definition.scopes, granted).length > 0 };
}
