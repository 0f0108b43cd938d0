import { Command } from "commander";
import { openProviders } from "../../core/context.ts";
import { type ConnectionView, listConnectionEvents } from "../../core/integrations/integrations.ts";
import { printJson, printLine, printTable, say } from "../output.ts";
import { withStore } from "../session.ts";
import { count } from "../tenant/options.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { formatTime } from "../tenant/view.ts";
import { chooseConnections, connectionNotFound } from "./choice.ts";
import { printConnection } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .argument("[providers...]", "which of the tenant's; left out: all that it is connected to")
    .option("--limit <count>", "how many of the newest attempts", count, 10)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw integration show alice gmail")
    .action(async (reference: string, wanted: string[], { limit, json }) =>
      withStore(async (store) => {
        const ctx = { ...store, providers: await openProviders(store) };
        const { id, slug } = await getTenant(store.db, reference);
        const { connections, absent } = await chooseConnections(ctx, id, wanted, {});
        const [missing] = absent;
        if (missing !== undefined) throw connectionNotFound(slug, missing);
        const shown: Shown[] = [];
        for (const connection of connections)
          shown.push({ connection, events: await listConnectionEvents(store.db, connection, limit) });
        if (json) return printJson({ tenant: slug, connections: shown.map(document) });
        if (shown.length === 0)
          return say(`${slug} has no connections. Make one with: openclaw integration connect ${slug} <provider>`);
        for (const [index, one] of shown.entries()) {
          if (index > 0) printLine("");
          print(one);
        }
      }),
    );
}

type Shown = { connection: ConnectionView; events: Awaited<ReturnType<typeof listConnectionEvents>> };

function document({ connection, events }: Shown) {
  return {
    ...connection,
    events: events.map(({ id: _id, tenantId: _tenantId, provider: _provider, ...event }) => event),
  };
}

function print({ connection, events }: Shown): void {
  printConnection(connection);
  if (events.length === 0) return;
  printLine("");
  printTable(
    ["AT", "WHAT", "ASKED BY", "OUTCOME", "TOOK", "AGAIN"],
    events.map(({ at, kind, askedBy, outcome, code, durationMs, retryAt }) => [
      formatTime(at),
      kind,
      askedBy,
      code === null ? outcome : `${outcome} (${code})`,
      `${durationMs} ms`,
      retryAt === null ? "–" : `after ${Math.max(0, Math.round((retryAt.getTime() - at.getTime()) / 1_000))} s`,
    ]),
  );
}
