import { Command } from "commander";
import { findEntitlement } from "../../core/billing/billing.ts";
import {
  describePhase,
  describeTrouble,
  findKeys,
  findRuntime,
  type KeysView,
  listSteps,
  type RuntimeRow,
} from "../../core/orchestrator/orchestrator.ts";
import { listConnections, stateOf } from "../../core/integrations/integrations.ts";
import type { Db } from "../../core/platform/db.ts";
import { findChatClosedAt } from "../../core/router/closed-chats.ts";
import { getTenant, type Tenant } from "../../core/tenants/tenants.ts";
import { printFields, printJson, printLine, printTable } from "../output.ts";
import { withStore } from "../session.ts";
import { describeStep, formatTime, tenantDocument } from "./view.ts";

const STEPS_SHOWN = 5;

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw tenant show alice")
    .action(async (reference: string, { json }) =>
      withStore(async ({ db, clock }) => {
        const tenant = await getTenant(db, reference);
        const runtime = await findRuntime(db, tenant.id);
        const steps = await listSteps(db, tenant.id, STEPS_SHOWN);
        const keys = await findKeys({ db, clock }, tenant);
        const entitlement = await findEntitlement(db, tenant.id, clock.now());
        const connections = await connectionsOf(db, tenant, clock.now());
        const { telegramChatId } = tenant;
        const closedAt = telegramChatId === null ? undefined : await findChatClosedAt(db, telegramChatId);
        if (json) {
          const { telegram, ...rest } = tenantDocument(tenant);
          const chat = { ...telegram, closedAt: closedAt ?? null };
          const found = { entitlement, runtime: runtime ?? null, keys: keys ?? null, connections, steps };
          return printJson({ ...rest, telegram: chat, ...found });
        }
        printFields([
          ["id", tenant.id],
          ["slug", tenant.slug],
          ["name", tenant.displayName],
          ["e-mail", tenant.email],
          ["chat", String(telegramChatId ?? "not linked")],
          ...(closedAt === undefined
            ? []
            : [
                [
                  "telegram",
                  `refuses messages since ${formatTime(closedAt)}: bot blocked, or the person is gone`,
                ] as const,
              ]),
          ["tier", tenant.tier],
          ["tags", tenant.tags.join(", ") || "–"],
          ["status", `${tenant.status} since ${formatTime(tenant.statusChangedAt)}`],
          ["because", tenant.statusReason ?? "–"],
          ["entitled", `${entitlement.entitled ? "yes" : "no"}: ${entitlement.reason}`],
          ["runtime", runtime === undefined ? "none" : describeRuntime(runtime)],
          ["trouble", (runtime && describeTrouble(runtime)) ?? "–"],
          ["keys", keys === undefined ? "none" : describeKeys(keys)],
          ["connections", connections.map(({ provider, state }) => `${provider} (${state})`).join(", ") || "none"],
          ["asleep", formatTime(tenant.hibernatedAt)],
          ["created", formatTime(tenant.createdAt)],
        ]);
        if (steps.length === 0) return;
        printLine("");
        printTable(
          ["AT", "STEP", "OUTCOME", "WHY"],
          steps.map((step) => [formatTime(step.at), step.step, describeStep(step), step.detail ?? ""]),
        );
      }),
    );
}

async function connectionsOf(db: Db, { id }: Tenant, now: Date) {
  return (await listConnections(db, { tenantIds: [id] })).map((connection) => ({
    provider: connection.provider,
    state: stateOf(connection, now),
    account: connection.accountEmail,
  }));
}

function describeKeys({ generation, since, rotation }: KeysView): string {
  const made = `generation ${generation}, made ${formatTime(since)}`;
  if (rotation === null) return made;
  const { generation: next, phase, requestedAt, trouble } = rotation;
  const why = trouble === null ? "" : ` (${trouble})`;
  return `${made}; rotating to ${next} since ${formatTime(requestedAt)}: ${describePhase(phase)}${why}`;
}

/** As last observed, which is not what the fleet is configured to run (F48). */
function describeRuntime({ state, address, image }: RuntimeRow): string {
  return `${state}${address === null ? "" : ` at ${address}`}${image === "" ? "" : ` (${image})`}`;
}
