import { Command } from "commander";
import type { Store } from "../../core/context.ts";
import { type FleetStatus, readFleetStatus } from "../../core/orchestrator/orchestrator.ts";
import { listDaemons, type LiveDaemon } from "../../core/platform/daemons.ts";
import { TENANT_STATUSES } from "../../core/tenants/tenants.ts";
import { printFields, printJson, printLine, printTable } from "../output.ts";
import { formatAge } from "../route/view.ts";
import { withStore } from "../session.ts";
import { formatTime } from "../tenant/view.ts";
import { showWatched } from "../watch.ts";
import { describeSweep } from "./view.ts";

const STATES = ["running", "starting", "asleep", "failed", "absent"] as const;

export function command(): Command {
  return new Command()
    .option("--watch", "again every two seconds, until Ctrl-C")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw fleet status --watch")
    .action(async ({ watch, json }) =>
      withStore((store) =>
        showWatched({ watch, json }, async () => {
          const status = await readFleetStatus(store.db);
          const daemons = await listDaemons(store.pool);
          if (json) return printJson({ ...status, daemons });
          print(store, status, daemons);
        }),
      ),
    );
}

function print({ clock }: Store, status: FleetStatus, daemons: readonly LiveDaemon[]): void {
  printCounts(status.tenants);
  printLine("");
  if (status.images.length > 0) {
    printTable(
      ["IMAGE", "AWAKE", "ASLEEP"],
      status.images.map(({ image, awake, asleep }) => [image || "not seen yet", String(awake), String(asleep)]),
    );
    printLine("");
  }
  const now = clock.now();
  const { provisioning, asleep, sweep } = status;
  printFields([
    ["asleep", `${asleep.idle} until the next message, ${asleep.stopped} that may not run`],
    ["failing", `${status.failing}${status.failing === 0 ? "" : "; see: openclaw fleet health"}`],
    [
      "provisioning",
      provisioning === null
        ? "none"
        : `the oldest is ${provisioning.tenant}, for ${formatAge(provisioning.since, now)}: ${provisioning.trouble ?? "on its way"}`,
    ],
    ["orphans", `${sweep.orphans.length}${sweep.orphans.length === 0 ? "" : "; see: openclaw fleet reap --dry-run"}`],
    ["last sweep", describeSweep(sweep, now)],
    ["daemons", daemons.length === 0 ? "none: nothing is mended, and no message is delivered" : String(daemons.length)],
  ]);
  if (daemons.length === 0) return;
  printLine("");
  printTable(
    ["DAEMON", "ROLES", "VERSION", "BUILD", "SINCE"],
    daemons.map(({ host, pid, roles, version, build, startedAt }) => [
      `${host}:${pid}`,
      roles.join(", "),
      version,
      build || "unknown",
      formatTime(startedAt),
    ]),
  );
}

function printCounts(counts: FleetStatus["tenants"]): void {
  const countOf = (status: string, state: string) =>
    counts.find((one) => one.status === status && one.state === state)?.count ?? 0;
  printTable(
    ["STATUS", "TENANTS", "RUNNING", "STARTING", "ASLEEP", "FAILED", "NO RUNTIME"],
    TENANT_STATUSES.map((status) => {
      const states = STATES.map((state) => countOf(status, state));
      return [status, ...[states.reduce((sum, count) => sum + count, 0), ...states].map(String)];
    }),
  );
}
