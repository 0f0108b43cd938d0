import { Command } from "commander";
import { compareFleet, type Compared, type Orphan, readFleetSettings } from "../../core/orchestrator/orchestrator.ts";
import { FindingError } from "../../core/platform/errors.ts";
import { printJson, printTable, say } from "../output.ts";
import { withFleet } from "../session.ts";
import { selectTenantsOrAll, withTenantSelectors } from "../tenant/selection.ts";
import { comparedDocument, hintAtSettings } from "./view.ts";

export function command(): Command {
  return withTenantSelectors(new Command().argument("[tenants...]", "slugs or ids; left out: all"))
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw fleet drift --status active")
    .action(async (references: string[], { json, ...selectors }) =>
      withFleet(async (store) => {
        const chosen = new Set((await selectTenantsOrAll(store.db, references, selectors)).map(({ id }) => id));
        const fleet = await readFleetSettings(store);
        const found = await compareFleet({ ...store, fleet }, { withSecrets: true });
        const isOfAll = references.length === 0 && Object.keys(selectors).every((name) => name === "all");
        const orphans = isOfAll ? found.orphans : [];
        const compared = found.tenants.filter(({ tenant, plan }) => chosen.has(tenant.id) && plan.goal !== "left");
        const differing = compared.filter(({ plan }) => plan.drift.length > 0);
        if (json) printJson({ compared: compared.length, drift: differing.map(comparedDocument), orphans });
        else print(differing, orphans, compared);
        const count = differing.length + orphans.length;
        if (count > 0)
          throw new FindingError("drift", `${differing.length} differ, and ${orphans.length} have no tenant.`);
      }),
    );
}

function print(differing: readonly Compared[], orphans: readonly Orphan[], compared: readonly Compared[]): void {
  if (differing.length > 0) {
    printTable(
      ["TENANT", "STATUS", "DRIFT", "WHAT"],
      differing.flatMap(({ tenant, plan }) =>
        plan.drift.map(({ kind, words }) => [tenant.slug, tenant.status, kind, words]),
      ),
    );
  }
  if (orphans.length > 0) {
    printTable(
      ["ORPHAN", "STATE", "IMAGE"],
      orphans.map(({ tenantId, state, image }) => [tenantId, state, image || "–"]),
    );
    say("Orphans are removed by nothing but: openclaw fleet reap");
  }
  hintAtSettings(compared);
  if (differing.length + orphans.length === 0) say(`${compared.length} compared: all as they should be.`);
}
