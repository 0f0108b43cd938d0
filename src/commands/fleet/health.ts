import { Command } from "commander";
import { checkHealth, type Health, type TenantHealth } from "../../core/orchestrator/orchestrator.ts";
import { FindingError } from "../../core/platform/errors.ts";
import type { Tenant } from "../../core/tenants/tenants.ts";
import { printJson, printTable, say } from "../output.ts";
import { formatAge } from "../route/view.ts";
import { withStore } from "../session.ts";
import { selectTenantsOrAll, withTenantSelectors } from "../tenant/selection.ts";

export function command(): Command {
  return withTenantSelectors(new Command().argument("[tenants...]", "slugs or ids; left out: all"))
    .option("--probe", "ask those that are awake now, from here, instead of what was last observed")
    .option("--unhealthy", "show only those")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw fleet health --probe --unhealthy")
    .action(async (references: string[], { probe = false, unhealthy = false, json, ...selectors }) =>
      withStore(async (store) => {
        const all = await checkHealth(store, await selectTenantsOrAll(store.db, references, selectors), { probe });
        const counts = countHealth(all);
        const shown = unhealthy ? all.filter(({ health }) => health === "unhealthy") : all;
        if (json) printJson({ counts, tenants: shown.map(document) });
        else print(shown, counts, store.clock.now());
        if (counts.unhealthy > 0)
          throw new FindingError("unhealthy", `${counts.unhealthy} of ${all.length} are unhealthy.`);
      }),
    );
}

type Judged = TenantHealth & { tenant: Tenant };

function countHealth(all: readonly Judged[]): Record<Health, number> {
  const counts = { healthy: 0, asleep: 0, starting: 0, unhealthy: 0 };
  for (const { health } of all) counts[health] += 1;
  return counts;
}

function document({ tenant, health, since, why }: Judged) {
  return { tenant: tenant.slug, id: tenant.id, status: tenant.status, health, since, why };
}

function print(shown: readonly Judged[], counts: Record<Health, number>, now: Date): void {
  if (shown.length > 0) {
    printTable(
      ["TENANT", "STATUS", "HEALTH", "FOR", "WHY"],
      shown.map(({ tenant, health, since, why }) => [
        tenant.slug,
        tenant.status,
        health,
        formatAge(since, now),
        why ?? "–",
      ]),
    );
  }
  say(
    `${counts.healthy} healthy, ${counts.asleep} asleep, ${counts.starting} starting, ${counts.unhealthy} unhealthy.`,
  );
}
