import { Counter, Gauge, type Registry } from "prom-client";
import type { ConnectionEvent, ConnectionTotals } from "../core/integrations/integrations.ts";
import type { ProviderId } from "../core/platform/ids.ts";
import type { TokenResult } from "./integrations-gateway.ts";
import { remember } from "./remember.ts";

const TOTALS_MS = 15_000;

export type IntegrationSources = { readConnections(): Promise<ConnectionTotals>; now(): Date };

/** Counts what this daemon does about connections, and shows how they stand. Labels name providers, never tenants. */
export function createIntegrationMetrics(registry: Registry, sources: IntegrationSources) {
  const registers = [registry];
  const refreshes = new Counter({
    name: "openclaw_connection_refreshes_total",
    help: "Refreshes by this daemon, by provider and outcome.",
    labelNames: ["provider", "outcome"],
    registers,
  });
  const tokens = new Counter({
    name: "openclaw_connection_tokens_total",
    help: "Access tokens that runtimes asked this daemon for, by provider and what they got.",
    labelNames: ["provider", "result"],
    registers,
  });
  showTotals(registry, sources);
  return {
    noted({ kind, provider, outcome }: ConnectionEvent) {
      if (kind === "refresh") refreshes.inc({ provider, outcome });
    },
    asked: (provider: ProviderId, result: TokenResult) => tokens.inc({ provider, result }),
  };
}

/** The same in every daemon: add nothing up. While the database does not answer, there is none of it. */
function showTotals(registry: Registry, { readConnections, now }: IntegrationSources): void {
  const read = remember(TOTALS_MS, readConnections);
  const registers = [registry];
  new Gauge({
    name: "openclaw_connections",
    help: "Connections by provider and state, but those of tenants that are removed.",
    labelNames: ["provider", "state"],
    registers,
    async collect() {
      const totals = await read();
      this.reset();
      for (const { provider, state, count } of totals?.byState ?? []) this.set({ provider, state }, count);
    },
  });
  new Gauge({
    name: "openclaw_oauth_client_refused",
    help: "1 while a provider refuses our OAuth client.",
    labelNames: ["provider"],
    registers,
    async collect() {
      const totals = await read();
      this.reset();
      for (const provider of totals?.refusedClients ?? []) this.set({ provider }, 1);
    },
  });
  new Gauge({
    name: "openclaw_connection_refresh_overdue_seconds",
    help: "For how long the refresh that has been due for longest has been so; 0 when none is.",
    registers,
    async collect() {
      const totals = await read();
      const due = totals && (totals.oldestDueAt === null ? 0 : now().getTime() - totals.oldestDueAt.getTime());
      this.set(due === undefined ? Number.NaN : Math.max(0, due) / 1_000);
    },
  });
}
