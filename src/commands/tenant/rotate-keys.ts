import { Command } from "commander";
import { planRotation, rotateKeys } from "../../core/orchestrator/orchestrator.ts";
import { withStore } from "../session.ts";
import { patience, plainText } from "./options.ts";
import { eachRotation, printRotations, waitForRotations } from "./rotations.ts";
import { selectTenants, withTenantSelectors } from "./selection.ts";

export function command(): Command {
  return withTenantSelectors(new Command().argument("[tenants...]", "slugs or ids"))
    .option("--reason <text>", "for the audit log", plainText, "asked by an operator")
    .option("--wait", "until the old keys are gone, a minute and more after the runtimes have the new ones")
    .option("--timeout <seconds>", "how long to wait", patience, 300)
    .option("--dry-run", "say what would happen and change nothing")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nExamples:\n  openclaw tenant rotate-keys alice --wait\n  openclaw tenant rotate-keys --tag eu --reason 'a backup was lost'",
    )
    .action(async (references: string[], { reason, wait, timeout, dryRun, json, ...selectors }) =>
      withStore(async (store) => {
        const tenants = await selectTenants(store.db, references, selectors);
        const options = { isNamed: references.length > 0, result: dryRun ? "would-rotate" : "rotating" } as const;
        const begun = await eachRotation(tenants, options, (tenant) =>
          dryRun ? planRotation(store, tenant) : rotateKeys(store, tenant.id, reason),
        );
        const items = wait && !dryRun ? await waitForRotations(store, begun, timeout * 1_000) : begun;
        printRotations(items, json);
      }),
    );
}
