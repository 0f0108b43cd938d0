import { Command } from "commander";
import { syncBilling, type SyncChange, type SyncItem, syncTenants } from "../../core/billing/billing.ts";
import type { Db } from "../../core/platform/db.ts";
import { PartialError, UsageError } from "../../core/platform/errors.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { watchInterrupt } from "../interruption.ts";
import { printJson, printTable, say } from "../output.ts";
import { withStore } from "../session.ts";
import { slugsOf } from "../tenant/slugs.ts";
import { openStripe } from "./stripe.ts";

export function command(): Command {
  return new Command()
    .argument("[tenants...]", "slugs or ids; left out: all, page by page")
    .option("--dry-run", "change nothing, and show what would be")
    .option("--restart", "begin anew, even if one was broken off")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExamples:\n  openclaw billing sync --dry-run\n  openclaw billing sync alice")
    .action(async (references: string[], { dryRun = false, restart = false, json }) =>
      withStore(async (store) => {
        const stripe = await openStripe(store);
        if (restart && references.length > 0)
          throw new UsageError("restart_of_some", "--restart is for a comparison of all tenants.");
        const items: SyncItem[] = [];
        const { priceBasic: basic, pricePlus: plus } = store.config.stripe;
        const ctx = { ...store, stripe, prices: { basic, plus } };
        const interrupt = watchInterrupt();
        const options = { dryRun, signal: interrupt.signal, onItem: (item: SyncItem) => void items.push(item) };
        const ids = (await Promise.all(references.map((one) => getTenant(store.db, one)))).map(({ id }) => id);
        try {
          if (ids.length === 0) await syncBilling(ctx, { ...options, restart });
          else await syncTenants(ctx, ids, options);
          interrupt.signal.throwIfAborted();
        } catch (error) {
          // What was done is kept; the next comparison of all goes on from there.
          if (!json) print(await named(store.db, items), dryRun);
          throw error;
        } finally {
          interrupt.end();
        }
        const all = await named(store.db, items);
        if (json) printJson({ dryRun, counts: countResults(items), items: all });
        else print(all, dryRun);
        const failed = items.filter(({ result }) => result === "failed").length;
        if (failed > 0) throw new PartialError("sync_partial", `${failed} of ${items.length} could not be compared.`);
      }),
    );
}

type Named = SyncItem & { tenant: string | null };

async function named(db: Db, items: readonly SyncItem[]): Promise<Named[]> {
  const slugs = await slugsOf(db, items);
  return items.map((item) => ({ tenant: slugs.get(item.tenantId) ?? null, ...item }));
}

function countResults(items: readonly SyncItem[]): Record<SyncItem["result"], number> {
  const counts = { same: 0, repaired: 0, unmatched: 0, "unknown-in-stripe": 0, failed: 0 };
  for (const { result } of items) counts[result] += 1;
  return counts;
}

function print(items: readonly Named[], dryRun: boolean): void {
  const shown = items.filter(({ result }) => result !== "same");
  if (shown.length > 0) {
    printTable(
      ["TENANT", "SUBSCRIPTION", "RESULT", "WHAT"],
      shown.map((item) => [item.tenant ?? "–", item.subscription, item.result, describe(item)]),
    );
  }
  const counts = countResults(items);
  say(
    `${items.length} compared: ${counts.same} same, ${counts.repaired} ${dryRun ? "would be repaired" : "repaired"}, ${counts.unmatched} of no tenant, ${counts["unknown-in-stripe"]} unknown in Stripe, ${counts.failed} failed.`,
  );
}

function describe(item: SyncItem): string {
  switch (item.result) {
    case "repaired":
      return item.changes.map(({ field, before, after }) => `${field}: ${show(before)} → ${show(after)}`).join(", ");
    case "unmatched":
      return `${item.status}; name its tenant in its metadata: tenant_id`;
    case "unknown-in-stripe":
      return "of another account or mode, or gone: check STRIPE_SECRET_KEY";
    case "failed":
      return item.reason;
    case "same":
      return "";
  }
}

function show(value: SyncChange["before"]): string {
  if (value === null) return "–";
  return value instanceof Date ? value.toISOString().slice(0, 10) : String(value);
}
