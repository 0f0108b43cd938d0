import { setTimeout as delay } from "node:timers/promises";
import { Command } from "commander";
import type { Store } from "../../core/context.ts";
import { UsageError } from "../../core/platform/errors.ts";
import { listOpenLanes, readBacklog } from "../../core/router/backlog.ts";
import { isOutputClosed } from "../broken-output.ts";
import { printJson, printLine, printTable } from "../output.ts";
import { withStore } from "../session.ts";
import { count } from "../tenant/options.ts";
import { formatAge, formatOwner } from "./view.ts";

const WATCH_MS = 2_000;
const CLEAR_SCREEN = "\u001B[H\u001B[2J";

export function command(): Command {
  return new Command()
    .option("--limit <count>", "so many, those that have waited longest first", count, 20)
    .option("--watch", "again every two seconds, until Ctrl-C")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw route lanes --watch")
    .action(async ({ limit, watch, json }) => {
      if (watch && json) throw new UsageError("options_conflict", "--json prints one document; leave --watch out.");
      await withStore(async (store) => {
        if (json) return printJson(await read(store, limit));
        for (;;) {
          if (watch && process.stdout.isTTY) process.stdout.write(CLEAR_SCREEN);
          print(await read(store, limit), store.clock.now());
          if (!watch || isOutputClosed()) return;
          await delay(WATCH_MS);
          if (!process.stdout.isTTY) printLine("");
        }
      });
    });
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
