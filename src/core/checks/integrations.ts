import type { OAuthClient, Providers } from "../adapters/oauth/oauth-provider.ts";
import { LOOK, openProviders, type Store } from "../context.ts";
import {
  CONNECTION_STATES,
  type ConnectionTotals,
  listClientTroubles,
  readConnectionTotals,
} from "../integrations/integrations.ts";
import { type Check, type CheckResult, failed, ok, warning } from "../platform/check.ts";
import { oauthClientVariables } from "../platform/config.ts";
import { ConfigError } from "../platform/errors.ts";

/** Sweeps come every minute. */
const OVERDUE_MS = 5 * 60_000;

/** Each client once at each token endpoint, and whether connections wait for one; nobody's tokens are touched. */
export async function integrationChecks(
  settings: Pick<Store, "config" | "secrets" | "clock">,
  openStore: () => Promise<Store>,
): Promise<Check[]> {
  const providers = await readThem(settings);
  if (providers instanceof ConfigError) {
    const [first = providers.message, ...others] = providers.problems;
    const rest = others.length === 0 ? "" : `, and ${others.length} more, see: openclaw integration providers`;
    const said = failed(`${first}${rest}`, "Correct the file that OPENCLAW_PROVIDERS_FILE names.");
    return [{ name: "integrations", run: async () => said }];
  }
  const dealings = groupByClient(providers);
  const configured = dealings.flatMap(({ ids }) => ids).toSorted();
  const words = configured.length === 0 ? "none configured" : configured.join(", ");
  const overview = { name: "integrations", run: async () => ok(words) };
  if (configured.length === 0) return [overview];
  const troubles = { name: "connections", run: async () => checkConnections(await openStore(), providers) };
  return [overview, ...dealings.map((dealing) => probeCheck(dealing, dealings)), troubles];
}

async function readThem(settings: Pick<Store, "config" | "secrets" | "clock">): Promise<Providers | ConfigError> {
  try {
    return await openProviders(settings, { timeoutMs: LOOK.timeoutMs });
  } catch (error) {
    // What is wrong with the file is one finding among others.
    if (error instanceof ConfigError) return error;
    throw error;
  }
}

/** Providers that share a client and the place where it is shown. */
type Dealing = { name: string; host: string; ids: string[]; oauthClient: OAuthClient };

function groupByClient(providers: Providers): Dealing[] {
  const dealings = new Map<string, Dealing>();
  for (const { definition, client: oauthClient } of providers.list()) {
    if (oauthClient === undefined) continue;
    const { id, client: name, tokenUrl } = definition;
    const known = dealings.get(`${name} ${tokenUrl}`);
    if (known === undefined)
      dealings.set(`${name} ${tokenUrl}`, { name, host: new URL(tokenUrl).host, ids: [id], oauthClient });
    else known.ids.push(id);
  }
  return [...dealings.values()];
}

function probeCheck({ name, host, ids, oauthClient }: Dealing, all: readonly Dealing[]): Check {
  const isOnly = all.filter((other) => other.name === name).length === 1;
  return {
    name: `oauth client ${name}${isOnly ? "" : ` at ${host}`}`,
    async run() {
      const found = await oauthClient.probe(new AbortController().signal);
      switch (found.kind) {
        case "accepted":
          return ok(`${host} takes it (${ids.join(", ")})`);
        case "client":
          return failed(
            `${host} refuses it: ${found.code}; ${ids.join(", ")} can't be connected or renewed`,
            `Compare ${oauthClientVariables(name).join(" and ")} with what the provider's console shows.`,
          );
        case "unavailable":
          return warning(
            `${host} did not say whether it takes it: ${found.code}`,
            "Try again later; until then, nothing is lost but time.",
          );
      }
    },
  };
}

async function checkConnections({ db, clock }: Store, providers: Providers): Promise<CheckResult> {
  const troubles = await listClientTroubles(db);
  if (troubles.length > 0) {
    const words = troubles.map(
      ({ provider, since, code }) =>
        `${provider} connections can't be renewed since ${since.toISOString().replace(/\.\d+Z$/, "Z")}: ${code}`,
    );
    return failed(words.join("; "), "Mend the client at the provider; its connections then come back by themselves.");
  }
  const { byState, oldestDueAt } = await readConnectionTotals({ db, clock, providers });
  const words = describeCounts(byState);
  const overdueMs = oldestDueAt === null ? 0 : clock.now().getTime() - oldestDueAt.getTime();
  if (overdueMs <= OVERDUE_MS) return ok(words);
  const remedy = "See whether a daemon with the role worker runs, and: openclaw integration list --state expiring";
  return warning(`${words}; one has waited to be renewed for ${Math.round(overdueMs / 60_000)} min`, remedy);
}

/** Such as `12 active, 1 expired`, over all providers. */
function describeCounts(byState: ConnectionTotals["byState"]): string {
  const counts = CONNECTION_STATES.map((state) => {
    const ofState = byState.filter((one) => one.state === state);
    return [ofState.reduce((sum, { count }) => sum + count, 0), state] as const;
  });
  const present = counts.filter(([count]) => count > 0).map(([count, state]) => `${count} ${state}`);
  return present.length === 0 ? "none yet" : present.join(", ");
}
