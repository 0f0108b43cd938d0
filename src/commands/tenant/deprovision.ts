import { createInterface } from "node:readline/promises";
import { Command } from "commander";
import { deprovisionTenant } from "../../core/orchestrator/orchestrator.ts";
import { UsageError } from "../../core/platform/errors.ts";
import { getTenant, type Tenant } from "../../core/tenants/tenants.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { wholeNumber } from "./options.ts";
import { tenantDocument } from "./view.ts";
import { waitWhile } from "./wait.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--confirm <slug>", "the tenant's slug again, for scripts")
    .option("--dry-run", "say what would happen and change nothing")
    .option("--no-input", "never ask")
    .option("--reason <text>", "for the audit log", "asked by an operator")
    .option("--wait", "until it is deleted")
    .option("--timeout <seconds>", "how long to wait", wholeNumber, 300)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant deprovision alice --confirm alice --wait")
    .action(async (reference: string, { confirm, dryRun, input, reason, wait, timeout, json }) =>
      withStore(async (store) => {
        const tenant = await getTenant(store.db, reference);
        if (dryRun) {
          say(
            `Would remove the runtime and keys of ${tenant.slug} (${tenant.status}); its data is kept ${store.config.tenancy.retentionDays} days.`,
          );
          return json ? printJson(tenantDocument(tenant)) : undefined;
        }
        await confirmSlug(tenant, confirm, input && process.stdin.isTTY);
        const begun = await deprovisionTenant(store, tenant.id, reason);
        const after = wait ? await waitWhile(store, tenant.id, "deprovisioning", timeout * 1_000) : begun;
        if (json) return printJson(tenantDocument(after));
        say(`${after.slug} is ${after.status}.`);
      }),
    );
}

async function confirmSlug({ slug }: Tenant, given: string | undefined, mayAsk: boolean): Promise<void> {
  const answer =
    given ?? (mayAsk ? await ask(`This removes the runtime and keys of ${slug}. Type its slug to go on: `) : undefined);
  if (answer === slug) return;
  throw new UsageError("not_confirmed", `Nothing was changed: confirm with --confirm ${slug}`);
}

async function ask(question: string): Promise<string> {
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await prompt.question(question)).trim();
  } finally {
    prompt.close();
  }
}
