import { Command } from "commander";
import type { Store } from "../../core/context.ts";
import { restoreTenant } from "../../core/orchestrator/orchestrator.ts";
import { ConflictError, NotFoundError } from "../../core/platform/errors.ts";
import { findPurgedAt, getTenant, type Tenant } from "../../core/tenants/tenants.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { patience, plainText } from "./options.ts";
import { formatTime, tenantDocument } from "./view.ts";
import { waitWhile } from "./wait.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--unpaid", "without being entitled: it waits for a payment")
    .option("--reason <text>", "for the audit log", plainText, "asked by an operator")
    .option("--wait", "until it is active")
    .option("--timeout <seconds>", "how long to wait", patience, 300)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant restore alice --wait")
    .action(async (reference: string, { unpaid = false, reason, wait, timeout, json }) =>
      withStore(async (store) => {
        const { id } = await getKept(store, reference);
        const begun = await restoreTenant(store, id, { reason, unpaid });
        const tenant = wait ? await waitWhile(store, id, "provisioning", timeout * 1_000) : begun;
        if (json) return printJson(tenantDocument(tenant));
        say(`${tenant.slug} is ${tenant.status}.`);
      }),
    );
}

/** @throws ConflictError when it was purged, NotFoundError when it never was. */
async function getKept({ db }: Store, reference: string): Promise<Tenant> {
  try {
    return await getTenant(db, reference);
  } catch (error) {
    const purgedAt = error instanceof NotFoundError ? await findPurgedAt(db, reference) : undefined;
    if (purgedAt === undefined) throw error;
    throw new ConflictError(
      "tenant_purged",
      `The tenant ${reference} was purged on ${formatTime(purgedAt)}; its data is gone for good. Create a new one.`,
      { cause: error },
    );
  }
}
