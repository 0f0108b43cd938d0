import { Command } from "commander";
import { getDeadLetter, readDeadLetterBody } from "../../../core/router/dead-letters.ts";
import { findTenantById } from "../../../core/tenants/tenants.ts";
import { printFields, printJson, printLine } from "../../output.ts";
import { withStore } from "../../session.ts";
import { wholeNumber } from "../../tenant/options.ts";
import { formatTime } from "../../tenant/view.ts";

export function command(): Command {
  return new Command()
    .argument("<id>", "as `openclaw route dead-letters list` shows it", wholeNumber)
    .option("--body", "print the update itself: somebody's message, so that this is kept in the audit log")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw route dead-letters show 17")
    .action(async (id: number, { body: withBody, json }) =>
      withStore(async (store) => {
        const letter = await getDeadLetter(store.db, id);
        const found = letter.tenantId === null ? undefined : await findTenantById(store.db, letter.tenantId);
        const tenant = found?.slug ?? null;
        const body: unknown = withBody ? JSON.parse((await readDeadLetterBody(store, id)).toString()) : undefined;
        if (json) return printJson({ ...letter, tenant, ...(withBody ? { body } : {}) });
        printFields([
          ["id", String(letter.id)],
          ["tenant", tenant ?? "–"],
          ["chat", String(letter.lane)],
          ["update", `${letter.updateId} of bot ${letter.botId}`],
          ["kind", letter.kind],
          ["sender", String(letter.userId ?? "–")],
          ["sent", formatTime(letter.sentAt)],
          ["accepted", formatTime(letter.acceptedAt)],
          ["given up", formatTime(letter.diedAt)],
          ["because", letter.reason],
          ["size", `${letter.sizeBytes} bytes`],
        ]);
        if (withBody) printLine(`\n${printable(body)}`);
      }),
    );
}

/** Nothing in it may steer the terminal, or turn the direction of what follows. */
function printable(body: unknown): string {
  const escape = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(body, null, 2).replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, (character) =>
    character === "\n" ? character : character.split("").map(escape).join(""),
  );
}
