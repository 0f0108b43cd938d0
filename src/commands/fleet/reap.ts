import { Command } from "commander";
import type { Context, Store } from "../../core/context.ts";
import {
  findOrphanOwner,
  listOrphans,
  type Orphan,
  type OrphanOwner,
  reapOrphan,
} from "../../core/orchestrator/orchestrator.ts";
import { errorMessage, OpenClawError, PartialError, UpstreamError } from "../../core/platform/errors.ts";
import { confirm } from "../confirm.ts";
import { printJson, printTable, say } from "../output.ts";
import { withFleet } from "../session.ts";
import { plainText } from "../tenant/options.ts";

export function command(): Command {
  return new Command()
    .option("--erase-unknown", "also the data of those whose tenant is not on record, for good")
    .option("--confirm <count>", "how many there are, for scripts")
    .option("--dry-run", "list them and change nothing")
    .option("--no-input", "never ask")
    .option("--reason <text>", "for the audit log", plainText, "asked by an operator")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExamples:\n  openclaw fleet reap --dry-run\n  openclaw fleet reap --confirm 2")
    .action(async ({ eraseUnknown = false, confirm: given, dryRun = false, input, reason, json }) =>
      withFleet(async (store) => {
        const found = await findOwned(store, eraseUnknown);
        if (dryRun || found.length === 0) return print(found, dryRun, json);
        const word = String(found.length);
        if (given === undefined && !json) printOrphans(found);
        await confirm({ warning: warn(found), word, given, input });
        const items: Item[] = [];
        for (const one of found) items.push({ ...one, ...(await reap(store, one, { erase: eraseUnknown, reason })) });
        print(items, dryRun, json);
        requireAll(items);
      }),
    );
}

/** `does`: what happens to it, and its data. */
type Owned = Orphan & { owner: OrphanOwner; does: "remove" | "erase" };
type Item = Owned & { result?: "removed" | "erased" | "failed"; trouble?: string };

async function findOwned(store: Store & Pick<Context, "runtimes">, eraseUnknown: boolean): Promise<Owned[]> {
  const found: Owned[] = [];
  for (const orphan of await listOrphans(store)) {
    const owner = await findOrphanOwner(store.db, orphan.tenantId);
    if (owner === undefined) continue;
    const isErased = owner.kind === "purged" || (owner.kind === "unknown" && eraseUnknown);
    found.push({ ...orphan, owner, does: isErased ? "erase" : "remove" });
  }
  return found;
}

async function reap(
  store: Store & Pick<Context, "runtimes" | "vault">,
  { tenantId }: Owned,
  options: { erase: boolean; reason: string },
): Promise<Pick<Item, "result" | "trouble">> {
  try {
    return { result: await reapOrphan(store, tenantId, options) };
  } catch (error) {
    // One that can't be removed is reported, and must not keep the others.
    if (!(error instanceof OpenClawError)) throw error;
    return { result: "failed", trouble: errorMessage(error) };
  }
}

/** @throws PartialError when only some are gone, UpstreamError when none is. */
function requireAll(items: readonly Item[]): void {
  const failed = items.filter(({ result }) => result === "failed").length;
  if (failed === 0) return;
  const message = `${failed} of ${items.length} are still there.`;
  if (failed < items.length) throw new PartialError("some_failed", message);
  throw new UpstreamError("all_failed", message, { service: "runtime", retryable: true });
}

function warn(found: readonly Owned[]): string {
  const erased = found.filter(({ does }) => does === "erase").length;
  const data = erased === 0 ? "; the data is kept" : `, and the data of ${erased} of them for good`;
  return `This removes what runs without a tenant (${found.length}), with its keys${data}.`;
}

function print(items: readonly Item[], dryRun: boolean, json: boolean): void {
  if (json) return printJson({ dryRun, orphans: items });
  if (items.length === 0) return say("Every runtime has its tenant.");
  printOrphans(items);
  if (dryRun) say(`Would do: ${warn(items)}`);
}

function printOrphans(items: readonly Item[]): void {
  const isDone = items.some(({ result }) => result !== undefined);
  printTable(
    ["RUNTIME", "STATE", "TENANT", "DATA", ...(isDone ? ["RESULT"] : [])],
    items.map(({ tenantId, state, owner, does, result, trouble }) => [
      tenantId,
      state,
      owner.kind === "deleted" ? `${owner.slug} (deleted)` : owner.kind === "purged" ? "purged" : "not on record",
      does === "erase" ? "erased" : "kept",
      ...(isDone ? [`${result}${trouble === undefined ? "" : `: ${trouble}`}`] : []),
    ]),
  );
}
