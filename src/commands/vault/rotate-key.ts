import { Command } from "commander";
import type { KeyRotation } from "../../core/adapters/vault/key-rotation.ts";
import { openKeyRotation } from "../../core/context.ts";
import { rotateVaultKey } from "../../core/orchestrator/orchestrator.ts";
import { PartialError } from "../../core/platform/errors.ts";
import { watchInterrupt } from "../interruption.ts";
import { printJson, say } from "../output.ts";
import { withStore } from "../session.ts";
import { plainText } from "../tenant/options.ts";

const PROGRESS_MS = 2_000;

export function command(): Command {
  return new Command()
    .option("--dry-run", "count what would be sealed again, and change nothing")
    .option("--reason <text>", "for the audit log", plainText, "asked by an operator")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nDaemons go on meanwhile. Cut off in the middle, it goes on when it is run again.\n\nExamples:\n  openclaw vault rotate-key\n  openclaw vault rotate-key --dry-run --json",
    )
    .action(async ({ dryRun = false, reason, json }) =>
      withStore(async (store) => {
        const interrupt = watchInterrupt();
        const options = { dryRun, reason, signal: interrupt.signal, report: createReport() };
        const rotation = await rotateVaultKey(store, openKeyRotation(store), options).finally(interrupt.end);
        if (json) printJson(documentOf(rotation, dryRun));
        else print(rotation, dryRun);
        requireReadable(rotation);
      }),
    );
}

function createReport() {
  let toldAt = performance.now();
  return ({ done, of }: { done: number; of: number }) => {
    if (performance.now() - toldAt < PROGRESS_MS) return;
    toldAt = performance.now();
    say(`${done} of ${of} secrets`);
  };
}

function documentOf({ isResumed, ...rotation }: KeyRotation, dryRun: boolean) {
  return { dryRun, resumed: isResumed, ...rotation };
}

function print({ source, isResumed, secrets, versions, resealed, unreadable, oldKeys }: KeyRotation, dryRun: boolean) {
  say(`${versions} versions of ${secrets} secrets; ${resealed} ${dryRun ? "would be" : "were"} sealed again.`);
  if (dryRun || unreadable.length > 0) {
    if (isResumed) say("A rotation that was begun is not done yet.");
    return;
  }
  if (source === "folder") return say("All is sealed with the new key, and the old one is gone. Back the vault up.");
  if (oldKeys > 0)
    return say(
      "All is sealed with the first key. Once every daemon was started with this OPENCLAW_VAULT_KEY, run this again; then the other keys can be removed from it.",
    );
  say("All is sealed with the only key. For another one, put it in front: OPENCLAW_VAULT_KEY=<new>,<old>");
}

/** @throws PartialError */
function requireReadable({ unreadable, oldKeys }: KeyRotation): void {
  if (unreadable.length === 0) return;
  const kept = oldKeys > 0 ? " The old keys are kept until then." : "";
  throw new PartialError(
    "some_unreadable",
    `No key opens ${unreadable.join(", ")}: put it back from a backup, or add the key it was sealed with, and run this again.${kept}`,
  );
}
