import { Command } from "commander";
import { openIntegrations } from "../../core/context.ts";
import {
  type ConnectionView,
  disconnect,
  type Ended,
  type IntegrationsContext,
} from "../../core/integrations/integrations.ts";
import { confirm } from "../confirm.ts";
import { printJson, printTable, say } from "../output.ts";
import { withStore } from "../session.ts";
import { plainText } from "../tenant/options.ts";
import { chooseConnections, withConnectionChoice } from "./choice.ts";
import { printConnections } from "./view.ts";
import { absentItems, type Item, itemOf, onlyFailure, type Outcome, outcomeOf, requireAll } from "./items.ts";

export function command(): Command {
  return withConnectionChoice(new Command())
    .option("--confirm <word>", "the tenant's slug, or of many how many are disconnected, for scripts")
    .option("--dry-run", "say what would happen and change nothing")
    .option("--no-input", "never ask")
    .option("--reason <text>", "for the audit log", plainText, "asked by an operator")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nThe tokens are deleted, and the grant is revoked at the provider unless another connection stands on it.\n\nExamples:\n  openclaw integration disconnect alice gmail --confirm alice\n  openclaw integration disconnect --tag eu --provider gmail --dry-run",
    )
    .action(async (reference: string | undefined, names: string[], options) => {
      const { provider = [], confirm: given, dryRun = false, input, reason, json, ...selectors } = options;
      await withStore(async (store) => {
        const ctx = await openIntegrations(store);
        const choice = await chooseConnections(ctx, reference, [...names, ...provider], selectors);
        const ending = choice.connections.filter((connection) => !hasEnded(connection));
        const warning = warn(ending);
        if (!dryRun && given === undefined && !json && ending.length > 1) printConnections(ending);
        if (!dryRun && ending.length > 0)
          await confirm({ warning, word: choice.tenant?.slug ?? String(ending.length), given, input });
        const items: EndedItem[] = [];
        // One after the other: of two that share a grant, the second is to see that the first has ended.
        for (const connection of choice.connections)
          items.push({ ...itemOf(connection), ...(await end(ctx, connection, { dryRun, reason })) });
        items.push(...absentItems(choice).map((item) => ({ ...item, revocation: null })));
        const failure = onlyFailure(choice, items);
        if (failure !== undefined) throw failure;
        if (json) printJson({ dryRun, items });
        else print(items);
        requireAll(items, "disconnected");
        if (dryRun && ending.length > 0) say(`Would do: ${warning}`);
      });
    });
}

type Ending = "disconnected" | "would-disconnect" | "already-disconnected";
type Revocation = { revocation: Ended["revocation"] | null };
type EndedItem = Item<Ending> & Revocation;

/** One whose provider is still to be told has not, and may be tried again at once. */
function hasEnded({ state, revocation }: ConnectionView): boolean {
  return state === "revoked" && revocation === null;
}

function warn(ending: readonly ConnectionView[]): string {
  const [only] = ending;
  const tenants = new Set(ending.map(({ tenant }) => tenant));
  const what =
    only === undefined
      ? "nothing"
      : ending.length === 1
        ? `${only.provider} of ${only.tenant}${only.account === null ? "" : ` (${only.account})`}`
        : tenants.size === 1
          ? `${ending.map(({ provider }) => provider).join(", ")} of ${only.tenant}`
          : `${ending.length} connections of ${tenants.size} tenants`;
  return `This disconnects ${what}: the tokens are deleted, and only the person can connect again.`;
}

async function end(
  ctx: IntegrationsContext,
  connection: ConnectionView,
  { dryRun, reason }: { dryRun: boolean; reason: string },
): Promise<Outcome<Ending> & Revocation> {
  const none = { code: null, reason: null, revocation: null };
  if (hasEnded(connection)) return { result: "already-disconnected", ...none };
  if (dryRun) return { result: "would-disconnect", ...none };
  try {
    const { tenantId, provider } = connection;
    const ended = await disconnect(ctx, { tenantId, provider }, { reason, askedBy: "operator" });
    return { result: "disconnected", ...none, ...ended };
  } catch (error) {
    return { ...outcomeOf(error), revocation: null };
  }
}

const GRANT: Readonly<Record<Ended["revocation"], string>> = {
  revoked: "revoked at the provider",
  shared: "kept: another connection stands on it",
  pending: "pending: the provider is told later",
  impossible: "not revocable from here",
};

function print(items: readonly EndedItem[]): void {
  if (items.length === 0) return say("No connections match.");
  printTable(
    ["TENANT", "PROVIDER", "ACCOUNT", "RESULT", "GRANT"],
    items.map(({ tenant, provider, account, result, revocation, reason }) => [
      tenant,
      provider,
      account ?? "–",
      result,
      revocation === null ? (reason ?? "–") : GRANT[revocation],
    ]),
  );
}
