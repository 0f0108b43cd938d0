import { Command } from "commander";
import {
  compareFleet,
  type Compared,
  type Comparison,
  type Convergence,
  readFleetSettings,
  reconcileTenants,
} from "../../core/orchestrator/orchestrator.ts";
import { PartialError, TimeoutError, UpstreamError } from "../../core/platform/errors.ts";
import type { TenantId } from "../../core/platform/ids.ts";
import { printJson, printTable, say } from "../output.ts";
import { withFleet } from "../session.ts";
import { patience } from "../tenant/options.ts";
import { selectTenants, withTenantSelectors } from "../tenant/selection.ts";
import { comparedDocument, describeDrift, hintAtSettings } from "./view.ts";
import { waitForAll } from "./wait.ts";

export function command(): Command {
  return withTenantSelectors(new Command().argument("[tenants...]", "slugs or ids"))
    .option("--dry-run", "show what would be done and change nothing")
    .option("--wait", "until all are as they should be")
    .option("--timeout <seconds>", "how long to wait", patience, 600)
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nOf those selected, the ones that differ are mended; those that are named are looked after in any case.\n\nExamples:\n  openclaw fleet reconcile --all --dry-run\n  openclaw fleet reconcile alice --wait",
    )
    .action(async (references: string[], { dryRun = false, wait, timeout, json, ...selectors }) => {
      await withFleet(async (store) => {
        const chosen = new Set((await selectTenants(store.db, references, selectors)).map(({ id }) => id));
        const fleet = await readFleetSettings(store);
        const look = () => compareFleet({ ...store, fleet }, { withSecrets: true });
        const found = await look();
        const isNamed = references.length > 0;
        const compared = found.tenants.filter(({ tenant }) => chosen.has(tenant.id));
        const items = compared.filter(({ plan }) => isNamed || plan.action !== "nothing");
        hintAtSettings(compared);
        if (dryRun) return print(items, undefined, json);
        const before = await reconcileTenants(
          store.db,
          items.map(({ tenant }) => tenant.id),
        );
        const outcomes = wait ? await waitForAll(store.db, before, timeout * 1_000) : undefined;
        if (outcomes !== undefined) await readBack(outcomes, look);
        print(items, outcomes, json);
        if (outcomes !== undefined) requireAll(outcomes, timeout);
      });
    });
}

/** What its job is done with may still not be as it should be. */
async function readBack(outcomes: Map<TenantId, Convergence>, look: () => Promise<Comparison>): Promise<void> {
  for (const { tenant, plan } of (await look()).tenants) {
    const isDone = outcomes.get(tenant.id)?.result === "done";
    if (isDone && plan.drift.length > 0)
      outcomes.set(tenant.id, { result: "failed", reason: `still ${describeDrift(plan.drift)}` });
  }
}

/** `outcomes` undefined: nobody waited for them. */
function print(
  items: readonly Compared[],
  outcomes: ReadonlyMap<TenantId, Convergence> | undefined,
  json: boolean,
): void {
  const rows = items.map((item) => ({ item, outcome: outcomes?.get(item.tenant.id) }));
  if (json) return printJson({ items: rows.map(({ item, outcome }) => ({ ...comparedDocument(item), ...outcome })) });
  if (items.length === 0) return say("All are as they should be.");
  printTable(
    ["TENANT", "STATUS", "STATE", "NEXT STEP", "WHY", ...(outcomes === undefined ? [] : ["RESULT"])],
    rows.map(({ item: { tenant, observed, plan }, outcome }) => [
      tenant.slug,
      tenant.status,
      observed?.state ?? "absent",
      plan.action,
      describeDrift(plan.drift),
      ...(outcome === undefined ? [] : [describe(outcome)]),
    ]),
  );
}

function describe({ result, reason }: Convergence): string {
  return reason === null ? result : `${result}: ${reason}`;
}

/** @throws TimeoutError while any goes on, PartialError when only some succeeded, UpstreamError when none did. */
function requireAll(outcomes: ReadonlyMap<TenantId, Convergence>, timeout: number): void {
  const count = (wanted: Convergence["result"]) =>
    [...outcomes.values()].filter(({ result }) => result === wanted).length;
  if (count("under-way") > 0) {
    throw new TimeoutError(
      "wait_timeout",
      `${count("under-way")} of ${outcomes.size} are still under way after ${timeout} s; they go on. Is a daemon running?`,
    );
  }
  const failed = count("failed");
  if (failed === 0) return;
  const message = `${failed} of ${outcomes.size} failed; they are tried again.`;
  if (failed < outcomes.size) throw new PartialError("some_failed", message);
  throw new UpstreamError("all_failed", message, { service: "runtime", retryable: true });
}
