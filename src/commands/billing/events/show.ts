import { Command } from "commander";
import { getEvent, readEventPayload } from "../../../core/billing/billing.ts";
import { printFields, printJson, printLine } from "../../output.ts";
import { withStore } from "../../session.ts";
import { slugsOf } from "../../tenant/slugs.ts";
import { formatTime } from "../../tenant/view.ts";

export function command(): Command {
  return new Command()
    .argument("<id>", "as `openclaw billing events list` shows it")
    .option("--payload", "print the event itself: it is about somebody, so that this is kept in the audit log")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw billing events show evt_1Nv0FGQ9RKHgCVdK")
    .action(async (id: string, { payload: withPayload, json }) =>
      withStore(async (store) => {
        const event = await getEvent(store.db, id);
        const tenant = (await slugsOf(store.db, [event])).get(event.tenantId) ?? null;
        const payload: unknown = withPayload ? JSON.parse(await readEventPayload(store, id)) : undefined;
        if (json) return printJson({ ...event, tenant, ...(withPayload ? { payload } : {}) });
        printFields([
          ["id", event.id],
          ["type", event.type],
          ["version", event.apiVersion ?? "–"],
          ["happened", formatTime(event.createdAt)],
          ["received", formatTime(event.receivedAt)],
          ["about", event.lane],
          ["tenant", tenant ?? "–"],
          ["status", event.status],
          ["finished", formatTime(event.finishedAt)],
          ["attempts", String(event.attempts)],
          ["trouble", event.lastError ?? "–"],
        ]);
        if (withPayload) printLine(`\n${JSON.stringify(payload, null, 2)}`);
      }),
    );
}
