import { ConflictError, NotFoundError, PartialError } from "../../../core/platform/errors.ts";
import { printJson, printTable, say } from "../../output.ts";

export type Item = { id: number; result: "replayed" | "dropped" | "gone" | "superseded" };

const FAILURES: Partial<Record<Item["result"], string>> = {
  gone: "replayed or dropped before, or never there",
  superseded: "Telegram has used its update id for a newer update; possible again 48 h after that one",
};

/** Works on one after the other, in the order given. Safe to run again when it is cut off. */
export async function eachOf(ids: readonly number[], work: (id: number) => Promise<Item["result"]>): Promise<Item[]> {
  const items: Item[] = [];
  try {
    for (const id of ids) items.push({ id, result: await work(id) });
  } catch (error) {
    say(`Stopped after ${items.length} of ${ids.length}; what is done stays done, run it again for the rest.`);
    throw error;
  }
  return items;
}

/**
 * Prints what became of each.
 * @throws PartialError when only some succeeded, the first failure when none did.
 */
export function printItems(items: readonly Item[], json: boolean | undefined): void {
  const failed = items.filter(({ result }) => FAILURES[result] !== undefined);
  const [first] = failed;
  if (first !== undefined && failed.length === items.length) throw failureOf(failed, first);
  if (json) printJson({ items });
  else if (items.length === 0) say("No dead letters match.");
  else
    printTable(
      ["ID", "RESULT"],
      items.map(({ id, result }) => [String(id), FAILURES[result] ?? result]),
    );
  if (first !== undefined) {
    throw new PartialError("some_failed", `${failed.length} of ${items.length} dead letters were left as they are.`);
  }
}

function failureOf(failed: readonly Item[], { result }: Item): Error {
  const ids = failed.map(({ id }) => id).join(", ");
  const message = `Dead letter ${ids}: ${FAILURES[result]}. See: openclaw route dead-letters list`;
  return result === "gone"
    ? new NotFoundError("dead_letter_not_found", message)
    : new ConflictError("update_id_reused", message);
}
