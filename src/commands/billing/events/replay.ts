import { Command } from "commander";
import { replayEvents, selectReplayable } from "../../../core/billing/billing.ts";
import { NotFoundError, PartialError, UsageError } from "../../../core/platform/errors.ts";
import { printJson, say } from "../../output.ts";
import { withStore } from "../../session.ts";
import { plainText } from "../../tenant/options.ts";
import { eventId, eventsOf, withSelectors } from "./selection.ts";

export function command(): Command {
  return withSelectors(new Command().argument("[id...]", "as `openclaw billing events list` shows them", eventId, []))
    .option("--all", "all of them")
    .option("--reason <text>", "for the audit log", plainText)
    .option("--dry-run", "say what would happen and change nothing")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw billing events replay --status unmatched --since 2d")
    .action(async (ids: string[], { all, reason, dryRun, json, ...selectors }) =>
      withStore(async (store) => {
        requireOneWay(ids, all, Object.keys(selectors).length > 0);
        const selection = ids.length > 0 ? { ids } : await eventsOf(store, selectors);
        const work = dryRun ? selectReplayable(store.db, selection) : replayEvents(store, selection, reason);
        const events = await work;
        const left = ids.filter((id) => !events.includes(id));
        if (ids.length > 0 && events.length === 0) throw new NotFoundError("event_not_found", describeLeft(left));
        if (json) printJson(dryRun ? { wouldReplay: events, left } : { replayed: events, left });
        else if (dryRun) say(`Would apply ${events.length} events again.`);
        else say(events.length === 0 ? "No Stripe events match." : `${events.length} events are applied again.`);
        if (left.length > 0) throw new PartialError("some_left", describeLeft(left));
      }),
    );
}

/** Never everything by leaving all out. */
function requireOneWay(ids: readonly string[], all: boolean | undefined, filters: boolean): void {
  if ([ids.length > 0, all === true, filters].filter(Boolean).length === 1) return;
  throw new UsageError(
    "selection_unclear",
    "Give either ids, or some of --tenant, --type, --status, --since and --until, or --all.",
  );
}

function describeLeft(ids: readonly string[]): string {
  return `Not there, or still pending: ${ids.join(", ")}. See: openclaw billing events list`;
}
