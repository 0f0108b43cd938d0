import { Command } from "commander";
import { findEntitlement } from "../../core/billing/billing.ts";
import { findRuntime } from "../../core/orchestrator/orchestrator.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { printFields, printJson } from "../output.ts";
import { withStore } from "../session.ts";
import { formatTime, tenantDocument } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant show alice")
    .action(async (reference: string, { json }) =>
      withStore(async ({ db, clock }) => {
        const tenant = await getTenant(db, reference);
        const runtime = await findRuntime(db, tenant.id);
        const entitlement = await findEntitlement(db, tenant.id, clock.now());
        if (json) return printJson({ ...tenantDocument(tenant), entitlement, runtime: runtime ?? null });
        printFields([
          ["id", tenant.id],
          ["slug", tenant.slug],
          ["name", tenant.displayName],
          ["e-mail", tenant.email],
          ["chat", String(tenant.telegramChatId ?? "not linked")],
          ["tier", tenant.tier],
          ["tags", tenant.tags.join(", ") || "–"],
          ["status", `${tenant.status} since ${formatTime(tenant.statusChangedAt)}`],
          ["because", tenant.statusReason ?? "–"],
          ["entitled", `${entitlement.entitled ? "yes" : "no"}: ${entitlement.reason}`],
          [
            "runtime",
            runtime === undefined ? "none" : `${runtime.state} at ${runtime.address ?? "–"} (${runtime.image})`,
          ],
          ["trouble", runtime?.reason ?? "–"],
          ["asleep", formatTime(tenant.hibernatedAt)],
          ["created", formatTime(tenant.createdAt)],
        ]);
      }),
    );
}
