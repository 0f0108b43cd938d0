import { Command } from "commander";
import { openIntegrations } from "../../core/context.ts";
import {
  type ConnectionView,
  type IntegrationsContext,
  renewConnection,
} from "../../core/integrations/integrations.ts";
import { createSlots } from "../../core/platform/slots.ts";
import { watchInterrupt } from "../interruption.ts";
import { printJson, printTable, say } from "../output.ts";
import { withStore } from "../session.ts";
import { formatTime } from "../tenant/view.ts";
import { chooseConnections, withConnectionChoice } from "./choice.ts";
import { absentItems, type Item, itemOf, onlyFailure, type Outcome, outcomeOf, requireAll } from "./items.ts";

/** So many are asked for at once. */
const AT_ONCE = 8;

export function command(): Command {
  return withConnectionChoice(new Command())
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nRenews the access now, however long it would last.\n\nExamples:\n  openclaw integration refresh alice gmail\n  openclaw integration refresh --all --provider gmail",
    )
    .action(async (reference: string | undefined, names: string[], { provider = [], json, ...selectors }) =>
      withStore(async (store) => {
        const ctx = await openIntegrations(store);
        const choice = await chooseConnections(ctx, reference, [...names, ...provider], selectors);
        const interrupt = watchInterrupt();
        const renewed = await renewAll(ctx, choice.connections, {
          isNamed: choice.tenant !== undefined,
          signal: interrupt.signal,
        }).finally(interrupt.end);
        const items = [...renewed, ...absentItems(choice).map((item) => ({ ...item, ...NOTHING }))];
        const failure = onlyFailure(choice, items);
        if (failure !== undefined) throw failure;
        if (json) printJson({ items });
        else print(items);
        interrupt.signal.throwIfAborted();
        requireAll(items, "renewed");
      }),
    );
}

type Renewing = { isNamed: boolean; signal: AbortSignal };
/** `kept`: it does not expire. */
type Times = { accessExpiresAt: Date | null; retryAt: Date | null };
type Renewed = Outcome<"renewed" | "kept"> & Times;
type RenewedItem = Item<"renewed" | "kept"> & Times;

const NOTHING: Times = { accessExpiresAt: null, retryAt: null };

/** Interrupted or broken, it begins with no more; what is under way comes to its end, so that no token is spent for nothing. */
async function renewAll(
  ctx: IntegrationsContext,
  connections: readonly ConnectionView[],
  { isNamed, signal }: Renewing,
): Promise<RenewedItem[]> {
  const slots = createSlots(AT_ONCE);
  const items: (RenewedItem | undefined)[] = [];
  const broken: unknown[] = [];
  await Promise.all(
    connections.map((connection, index) =>
      slots.use(async () => {
        if (signal.aborted || broken.length > 0) return;
        try {
          const outcome = isRenewable(connection) ? await renew(ctx, connection) : refuse(connection, isNamed);
          items[index] = { ...itemOf(connection), ...outcome };
        } catch (error) {
          // Thrown at once, it would end the others where they stand.
          broken.push(error);
        }
      }),
    ),
  );
  if (broken.length > 0) throw broken[0];
  return items.filter((item) => item !== undefined);
}

function isRenewable({ state, atRest, code }: ConnectionView): boolean {
  return !atRest && state !== "expired" && state !== "revoked" && code !== "not_renewable";
}

function refuse(connection: ConnectionView, isNamed: boolean): Renewed {
  return {
    result: isNamed ? "refused" : "left-out",
    code: connection.code ?? connection.state,
    reason: explain(connection),
    ...NOTHING,
  };
}

async function renew(ctx: IntegrationsContext, connection: ConnectionView): Promise<Renewed> {
  try {
    const asked = { askedBy: "operator", minRemainingMs: Number.POSITIVE_INFINITY } as const;
    const { tenantId, provider } = connection;
    const renewal = await renewConnection(ctx, { tenantId, provider }, asked);
    if (renewal.kind === "renewed" || renewal.kind === "present") {
      const { accessExpiresAt } = renewal.connection;
      const isKept = renewal.kind === "present" && accessExpiresAt === null;
      return {
        result: isKept ? "kept" : "renewed",
        code: null,
        reason: null,
        accessExpiresAt,
        retryAt: null,
      };
    }
    const [after = connection] = (await chooseConnections(ctx, tenantId, [provider], {})).connections;
    const reason = explain(after);
    if (renewal.kind === "gone") return { result: "failed", code: renewal.reason ?? renewal.state, reason, ...NOTHING };
    return {
      result: "failed",
      code: renewal.code,
      reason,
      accessExpiresAt: after.accessExpiresAt,
      retryAt: renewal.retryAt,
    };
  } catch (error) {
    return { ...outcomeOf(error), ...NOTHING };
  }
}

function explain({ state, reason, remedy }: ConnectionView): string {
  return `${reason ?? `it is ${state}`}${remedy === null ? "" : `; ${remedy}`}`;
}

function print(items: readonly RenewedItem[]): void {
  if (items.length === 0) return say("No connections match.");
  printTable(
    ["TENANT", "PROVIDER", "RESULT", "ACCESS ENDS", "WHY"],
    items.map(({ tenant, provider, result, accessExpiresAt, reason }) => [
      tenant,
      provider,
      result,
      formatTime(accessExpiresAt),
      reason ?? "–",
    ]),
  );
}
