import { Command } from "commander";
import { wakeTenant } from "../../core/orchestrator/orchestrator.ts";
import { ConflictError } from "../../core/platform/errors.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { tenantDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant wake alice")
    .action(async (reference: string, { json }) =>
      withStore(async (store) => {
        const { id, slug, status } = await getTenant(store.db, reference);
        if (status !== "active")
          throw new ConflictError("not_active", `Tenant ${slug} is ${status}; only an active one can be woken.`);
        await wakeTenant(store, id);
        if (json) return printJson(tenantDocument(await getTenant(store.db, id)));
        say(`${slug} is waking.`);
      }),
    );
}
