import { type Command, InvalidArgumentError, Option } from "commander";
import { EVENT_STATUSES, type EventSelection, type EventStatus } from "../../../core/billing/billing.ts";
import type { Store } from "../../../core/context.ts";
import { filterOf, parseSince, type Selectors } from "../../route/dead-letters/selection.ts";

export type EventSelectors = Selectors & { type?: string; status?: EventStatus; until?: Selectors["since"] };

/** The options that say which events are meant. */
export function withSelectors(command: Command): Command {
  return command
    .option("--tenant <tenant>", "only this tenant's, by slug or id")
    .option("--type <type>", "only of this type, such as invoice.paid")
    .addOption(new Option("--status <status>", "only these").choices(EVENT_STATUSES))
    .option("--since <when>", "received since: 90m, 12h, 2d or a time", parseSince)
    .option("--until <when>", "received before", parseSince);
}

/** Collects ids of events, as Stripe gives them. */
export function eventId(text: string, previous: string[] = []): string[] {
  if (!/^[\x21-\x7e]{1,255}$/.test(text))
    throw new InvalidArgumentError("It must be an id such as evt_1Nv0FGQ9RKHgCVdK.");
  return previous.includes(text) ? previous : [...previous, text];
}

/** What the options leave of all events. @throws NotFoundError for an unknown tenant. */
export async function eventsOf(store: Store, selectors: EventSelectors): Promise<EventSelection> {
  const { type, status, tenant, since, until } = selectors;
  const before = await filterOf(store, until === undefined ? {} : { since: until });
  const from = await filterOf(store, {
    ...(tenant === undefined ? {} : { tenant }),
    ...(since === undefined ? {} : { since }),
  });
  return { ...from, type, status, until: "since" in before ? before.since : undefined };
}
