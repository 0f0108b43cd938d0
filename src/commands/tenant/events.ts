import { Command } from "commander";
import { type HistoryEntry, listTenantHistory } from "../../core/orchestrator/orchestrator.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { printJson, printTable } from "../output.ts";
import { withStore } from "../session.ts";
import { count } from "./options.ts";
import { describeStep, formatTime } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--limit <count>", "the newest so many", count, 50)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant events alice --limit 10")
    .action(async (reference: string, { limit, json }) =>
      withStore(async ({ db }) => {
        const tenant = await getTenant(db, reference);
        const events = await listTenantHistory(db, tenant.id, limit);
        if (json) return printJson({ tenant: tenant.slug, events });
        printTable(["AT", "WHO", "WHAT", "DETAIL", "WHY"], events.map(toRow));
      }),
    );
}

function toRow(entry: HistoryEntry): string[] {
  const at = formatTime(entry.at);
  if (entry.kind === "step") return [at, "runtime", entry.step, describeStep(entry), entry.detail ?? ""];
  return [at, entry.actor, entry.action, describe(entry.detail), entry.reason ?? ""];
}

function describe(detail: unknown): string {
  return Object.entries(detail as Record<string, unknown>)
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
}
