import { Command } from "commander";
import type { Store } from "../../core/context.ts";
import { listOpenLanes, readBacklog } from "../../core/router/backlog.ts";
import { printJson, printLine, printTable } from "../output.ts";
import { withStore } from "../session.ts";
import { count } from "../tenant/options.ts";
import { showWatched } from "../watch.ts";
import { formatAge, formatOwner } from "./view.ts";

export function command(): Command {
  return new Command()
    .option("--limit <count>", "so many, those that have waited longest first", count, 20)
    .option("--watch", "again every two seconds, until Ctrl-C")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw route lanes --watch")
    .action(async ({ limit, watch, json }) =>
      withStore((store) =>
        showWatched({ watch, json }, async () => {
          const found = await read(store, limit);
          return json ? printJson(found) : print(found, store.clock.now());
        }),
      ),
    );
}

async function read({ db }: Store, limit: number) {
  return { totals: await readBacklog(db), lanes: await listOpenLanes(db, limit) };
}

function print({ totals, lanes }: Awaited<ReturnType<typeof read>>, now: Date): void {
  const { updates, oldestAcceptedAt, deadLetters } = totals;
  const oldest = oldestAcceptedAt === null ? "" : `, the oldest ${formatAge(oldestAcceptedAt, now)}`;
  const shown = lanes.length < totals.lanes ? ` (${lanes.length} shown)` : "";
  printLine(`${updates} updates wait in ${totals.lanes} lanes${shown}${oldest}; ${deadLetters} dead letters.`);
  if (lanes.length === 0) return;
  printLine("");
  printTable(
    ["CHAT", "TENANT", "STATUS", "UPDATES", "OLDEST", "SHARD", "OWNER"],
    lanes.map(({ lane, tenant, depth, oldestAcceptedAt: since, shard, owner }) => [
      String(lane),
      tenant?.slug ?? "–",
      tenant?.status ?? "–",
      String(depth),
      formatAge(since, now),
      String(shard),
      formatOwner(owner),
    ]),
  );
}
