import { readFile } from "node:fs/promises";
import { buffer } from "node:stream/consumers";
import { Command } from "commander";
import { addMs } from "../../core/platform/clock.ts";
import { errorMessage, UsageError } from "../../core/platform/errors.ts";
import { buildUpdate, simulateUpdate } from "../../core/router/route-simulation.ts";
import { parseUpdate, type Update } from "../../core/router/update.ts";
import { printFields, printJson } from "../output.ts";
import { withStore } from "../session.ts";
import { numberFrom, wholeNumber } from "../tenant/options.ts";
import { formatTime } from "../tenant/view.ts";
import { simulationDocument } from "./view.ts";

type Source = { file?: string; chat?: number; user?: number; kind?: string; text?: string };

export function command(): Command {
  return new Command()
    .option("--file <path>", "an update as JSON; - reads standard input")
    .option("--chat <id>", "or build one from this chat", wholeNumber)
    .option("--user <id>", "whoever sends it (default: the chat's)", wholeNumber)
    .option("--kind <kind>", "such as message or callback_query (default: message)")
    .option("--text <text>", "what it says; /start <token> links")
    .option("--age <seconds>", "as if it had been accepted so long ago", numberFrom(0, 31_536_000), 0)
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nDecides by what the database says now. Nothing is changed, sent or counted.\n\nExample:\n  openclaw route simulate --chat 111222333 --text hello",
    )
    .action(async ({ age, json, ...source }) =>
      withStore(async (store) => {
        const update = await readUpdate(source);
        const document = simulationDocument(
          await simulateUpdate(store, update, addMs(store.clock.now(), -age * 1_000)),
        );
        if (json) return printJson(document);
        const { tenant, entitled, runtime } = document;
        printFields([
          ["kind", document.update.kind],
          ["chat", `${document.update.chatId ?? "–"} (${document.update.chatType ?? "no chat"})`],
          ["sender", String(document.update.userId ?? "–")],
          ["sent", formatTime(document.update.sentAt ?? null)],
          ["tenant", tenant === null ? "none" : `${tenant.slug}, ${tenant.status}`],
          ["entitled", entitled === null ? "–" : entitled ? "yes" : "no"],
          [
            "runtime",
            runtime === null
              ? "none"
              : `${runtime.state} at ${runtime.address ?? "–"}, lets in user ${runtime.allowedUserId ?? "–"}`,
          ],
          ["verdict", document.verdict.kind],
          ["that is", document.explanation],
        ]);
      }),
    );
}

async function readUpdate({ file, chat, user, kind, text }: Source): Promise<Update> {
  const isBuilt = chat !== undefined;
  if ((file !== undefined) === isBuilt) throw new UsageError("update_missing", "Give either --file or --chat.");
  if (isBuilt) {
    return buildUpdate({
      chatId: chat,
      ...(user === undefined ? {} : { userId: user }),
      ...(kind === undefined ? {} : { kind }),
      ...(text === undefined ? {} : { text }),
    });
  }
  if ([user, kind, text].some((option) => option !== undefined))
    throw new UsageError(
      "options_conflict",
      "--user, --kind and --text go with --chat; the file says all that itself.",
    );
  return parseUpdate(file === "-" ? await buffer(process.stdin) : await readFileOf(file ?? ""));
}

async function readFileOf(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new UsageError("file_unreadable", `${file} can't be read: ${errorMessage(error)}`, { cause: error });
  }
}
