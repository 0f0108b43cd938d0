import { Command } from "commander";
import { type ChatView, SEARCHED, viewChat } from "../../core/router/chat-view.ts";
import { describeVerdict } from "../../core/router/route-simulation.ts";
import { describeTrouble } from "../../core/orchestrator/orchestrator.ts";
import { ConflictError } from "../../core/platform/errors.ts";
import { getTenant } from "../../core/tenants/tenants.ts";
import { printFields, printJson, printLine, printTable } from "../output.ts";
import { withStore } from "../session.ts";
import type { Store } from "../../core/context.ts";
import { formatTime } from "../tenant/view.ts";
import { formatAge, formatOwner, runtimeFacts, simulationDocument, tenantFacts } from "./view.ts";

export function command(): Command {
  return new Command()
    .argument("<tenant>", "slug or id, or the number of a Telegram chat")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  openclaw route show alice")
    .action(async (reference: string, { json }) =>
      withStore(async (store) => {
        const view = await viewChat(store, await chatOf(store, reference));
        if (json) return printJson(documentOf(view));
        printView(view, store.clock.now());
      }),
    );
}

async function chatOf({ db }: Store, reference: string): Promise<number> {
  const chatId = Number(reference);
  if (/^-?[0-9]+$/.test(reference) && Number.isSafeInteger(chatId)) return chatId;
  const { slug, telegramChatId } = await getTenant(db, reference);
  if (telegramChatId !== null) return telegramChatId;
  throw new ConflictError("not_linked", `${slug} has no Telegram chat. Link one with: openclaw tenant link ${slug}`);
}

function documentOf({ next, open, lastDelivered, ...view }: ChatView) {
  const { route } = next;
  return {
    ...view,
    tenant: route === undefined ? null : tenantFacts(route.tenant),
    runtime: route?.runtime === undefined ? null : runtimeFacts(route.runtime),
    lastDelivered,
    open: open.map(({ simulation, ...update }) => ({
      ...update,
      ...(simulation === undefined
        ? {}
        : { verdict: simulationDocument(simulation).verdict, explanation: describeVerdict(simulation.verdict) }),
    })),
    next: simulationDocument(next),
  };
}

function printView(view: ChatView, now: Date): void {
  const { next, owner, open, lastDelivered } = view;
  const { tenant, runtime } = next.route ?? {};
  const age = (at: Date) => `${formatTime(at)} (${formatAge(at, now)} ago)`;
  printFields([
    ["chat", String(view.chatId)],
    ["tenant", tenant === undefined ? "none: nobody is linked to this chat" : `${tenant.slug} (${tenant.id})`],
    ["status", tenant === undefined ? "–" : `${tenant.status}: ${tenant.statusReason ?? "no reason recorded"}`],
    [
      "entitled",
      view.entitlement === null ? "–" : `${view.entitlement.entitled ? "yes" : "no"}: ${view.entitlement.reason}`,
    ],
    ["runtime", runtime === undefined ? "none" : `${runtime.state} at ${runtime.address ?? "–"}`],
    ["healthy", runtime?.healthyAt == null ? "–" : `since ${formatTime(runtime.healthyAt)}`],
    ["lets in", runtime === undefined ? "–" : `user ${runtime.allowedUserId ?? "–"}`],
    ["trouble", (runtime && describeTrouble(runtime)) ?? "–"],
    ["shard", `${view.shard}, worked on by ${formatOwner(owner)}`],
    ["lease", owner === null ? "–" : `epoch ${owner.epoch}, until ${formatTime(owner.expiresAt)}`],
    ["last delivered", lastDelivered === null ? `not among the newest ${SEARCHED} updates` : age(lastDelivered.at)],
    ["bot blocked", view.closedAt === null ? "no" : `yes, or the person is gone: since ${age(view.closedAt)}`],
    ["dead letters", String(view.deadLetters)],
    ["open", String(view.openCount)],
    ["next message", describeVerdict(next.verdict)],
  ]);
  if (open.length === 0) return;
  printLine("");
  printTable(
    ["UPDATE", "KIND", "AGE", "NOW"],
    open.map(({ updateId, kind, acceptedAt, simulation }) => [
      String(updateId),
      kind,
      formatAge(acceptedAt, now),
      simulation === undefined ? "waits for the one before" : describeVerdict(simulation.verdict),
    ]),
  );
}
