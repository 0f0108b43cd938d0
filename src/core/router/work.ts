import type { BotApi } from "../adapters/telegram/bot-api.ts";
import type { Vault } from "../adapters/vault/vault.ts";
import type { PayLinks } from "../billing/billing.ts";
import { assertNever } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Batcher } from "../platform/batcher.ts";
import type { Log } from "../platform/log.ts";
import { noteSecretRefused, noteSecretTaken, type RuntimeRoute, wakeTenant } from "../orchestrator/orchestrator.ts";
import { consumeLink, type TenantsContext } from "../tenants/tenants.ts";
import { type AnswerTopic, decide, isSpoken, isStale, type Verdict } from "./decision.ts";
import type { Delivery } from "./delivery.ts";
import { createProbes } from "./probes.ts";
import { closeChat } from "./closed-chats.ts";
import { type Entry, storeVerdict } from "./inbox.ts";
import { idsIn, rememberIds } from "./known-ids.ts";
import type { Step } from "./lanes.ts";
import type { DeferReason, RouterObserver } from "./observer.ts";
import type { RateLimit } from "./rate-limit.ts";
import type { Route, RouteTenant } from "./routes.ts";
import { createSpeaker } from "./speaker.ts";
import { TEXTS } from "./texts.ts";
import { parseUpdate, readFacts, type Update, type UpdateFacts } from "./update.ts";
import { createWebhookSecrets } from "./webhook-secrets.ts";

export type WorkContext = TenantsContext & {
  log: Log;
  vault: Vault;
  /** Undefined while no bot token is configured: then nothing can be said. */
  botApi: BotApi | undefined;
  delivery: Delivery;
  routes: Batcher<number, Route | undefined>;
  rateLimit: RateLimit;
  signupUrl: string | undefined;
  payLinks: PayLinks;
  observer: RouterObserver;
};

/** What ends when somebody pays. */
const PAY_TOPICS = new Set<AnswerTopic>(["unpaid", "suspended", "deleted"]);

/** What earlier tries at an update left behind; it goes with the entry. */
type Memory = { tries: number; breaks: number; refusals: number; isWithinLimit: boolean | undefined };

/** An update, what is known of it, and where its chat leads. */
type Work = { entry: Entry; parsed: Update; update: UpdateFacts; route: Route | undefined };

type Reachable = Route & { runtime: RuntimeRoute };

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const NEVER_AGAIN_MS = 100 * 365 * 24 * HOUR_MS;
/** How long a sender waits in silence before being told that it takes a while. */
const PATIENCE_MS = 20_000;
const NOTICE_PERIOD_MS = 10 * MINUTE_MS;
const RUNTIME_GRACE_MS = 30_000;
const MAX_BREAKS = 3;
/** Longer than anything is held on purpose. */
const LAST_RESORT_MS = 60 * MINUTE_MS;
const WAKE_PERIOD_MS = 5_000;
/** An apology that can't be said by then is not said. */
const APOLOGY_MS = 30 * MINUTE_MS;
/** Tries at once at runtimes whose last one failed. */
const MAX_PROBES = 256;
const MAX_WOKEN = 10_000;

/** Works on one accepted update at a time: decides, acts on the verdict, and says whether it is finished. */
export function createWork(ctx: WorkContext): (entry: Entry) => Promise<Step> {
  const memories = new WeakMap<Entry, Memory>();
  const wokenAt = new Map<TenantId, number>();
  const secrets = createWebhookSecrets(ctx);
  const probes = createProbes(MAX_PROBES);
  const { say, endTap } = createSpeaker(ctx);

  return async function work(entry) {
    try {
      return await tryOnce(entry);
    } catch (error) {
      if (ctx.clock.now().getTime() - entry.acceptedAt.getTime() < LAST_RESORT_MS) throw error;
      // Whatever it is about this update, the chat must go on; the dead letter keeps it.
      ctx.log.error({ error, seq: entry.seq }, "update given up, it can't be worked on");
      return finish("dead", "it could not be worked on");
    }
  };

  async function tryOnce(entry: Entry): Promise<Step> {
    const parsed = parseUpdate(entry.body);
    const update = readFacts(parsed);
    // A private chat has its user's id, so the lane finds the tenant for kinds that have no chat as well.
    const route = entry.lane > 0 ? await ctx.routes.submit(entry.lane) : undefined;
    const verdict = decide({
      update,
      acceptedAt: entry.acceptedAt,
      now: ctx.clock.now(),
      tenant: route && { ...route.tenant, ...route },
      runtime: route?.runtime,
    });
    const step = await act({ entry, parsed, update, route }, verdict);
    if (step.kind !== "finish") return step;
    // No runtime will answer it.
    if (step.outcome !== "delivered" && update.callbackQueryId !== undefined) endTap(update.callbackQueryId);
    if (update.isBotBlocked && entry.lane > 0) await closeChat(ctx, entry.lane, entry.acceptedAt);
    return { ...step, tenantId: step.tenantId ?? route?.tenant.id };
  }

  async function act(work: Work, verdict: Verdict): Promise<Step> {
    const { entry, update, route } = work;
    switch (verdict.kind) {
      case "deliver":
        return route?.runtime === undefined
          ? finish("ignored", "no tenant")
          : deliver(work, { ...route, runtime: route.runtime }, verdict.address);
      case "hold":
        return hold(entry, update, route, verdict.notice);
      case "link":
        return link(entry, update, verdict.token);
      case "answer":
        return answer(entry, verdict.topic, route?.tenant.id);
      case "expire":
        return expire(entry, update, verdict.reason);
      case "ignore":
        return finish("ignored", verdict.reason);
      default:
        return assertNever(verdict);
    }
  }

  async function deliver(work: Work, route: Reachable, address: string): Promise<Step> {
    const { entry, parsed } = work;
    const { tenant, runtime } = route;
    const memory = recall(entry);
    // One verdict, whatever the number of tries.
    memory.isWithinLimit ??= entry.withinLimit ?? (await ctx.rateLimit.allow(entry.lane, entry.acceptedAt));
    if (!memory.isWithinLimit) return drop(entry);
    // Before the runtime knows them: its answer may come at once.
    await rememberIds(ctx, tenant.id, idsIn(parsed.fields));
    const update = { address, body: entry.body };
    const result = await probes.post(tenant.id, () => secrets.post(tenant.id, runtime, update));
    // Not even tried: enough others are waiting for runtimes in trouble.
    if (result === undefined) return deferDelivery(entry, "runtime-unavailable");
    switch (result.kind) {
      case "delivered":
        if (runtime.secretRefusedAt !== null) await noteSecretTaken(ctx.db, tenant.id);
        return finish("delivered");
      case "rejected":
        return finish("dead", `the runtime refused it with status ${result.status}`);
      case "broke":
        return countBreak(work, route);
      case "unauthorized":
        return refused(work, tenant);
      case "unavailable":
        return unavailable(work, tenant, result.reason);
      default:
        return assertNever(result);
    }
  }

  /** The first may have been a secret remembered from before; from the second on somebody has to mend the runtime. */
  async function refused(work: Work, tenant: RouteTenant): Promise<Step> {
    const memory = recall(work.entry);
    memory.refusals += 1;
    if (memory.refusals > 1) await noteSecretRefused(ctx, tenant.id);
    return unavailable(work, tenant, "401: the runtime has another webhook secret");
  }

  /** A runtime that has only just come up answers 500 before its queue is ready; later it is the update that breaks it. */
  async function countBreak(work: Work, { tenant, runtime }: Route): Promise<Step> {
    const { entry } = work;
    const healthySince = runtime?.healthyAt?.getTime() ?? Number.POSITIVE_INFINITY;
    if (ctx.clock.now().getTime() - healthySince < RUNTIME_GRACE_MS) return unavailable(work, tenant, "status 500");
    const memory = recall(entry);
    memory.breaks += 1;
    return memory.breaks >= MAX_BREAKS
      ? finish("dead", `the runtime broke on it ${memory.breaks} times`)
      : deferDelivery(entry, "runtime-broke");
  }

  async function unavailable({ entry, update }: Work, tenant: RouteTenant, reason: string): Promise<Step> {
    ctx.log.info({ tenantId: tenant.id, seq: entry.seq, reason }, "runtime unavailable, update kept");
    await wake(tenant);
    await tellToWait(entry, update, tenant.telegramChatId, "waking");
    return deferDelivery(entry, "runtime-unavailable");
  }

  /** What has been counted against the limit must not be counted again by another daemon. */
  async function deferDelivery(entry: Entry, reason: DeferReason): Promise<Step> {
    const { tries, isWithinLimit } = recall(entry);
    if (tries === 0 && isWithinLimit !== undefined && entry.withinLimit === undefined)
      await storeVerdict(ctx.db, entry, isWithinLimit);
    return defer(entry, reason);
  }

  async function hold(
    entry: Entry,
    update: UpdateFacts,
    route: Route | undefined,
    notice: "preparing" | "waking",
  ): Promise<Step> {
    if (notice === "waking" && route !== undefined) await wake(route.tenant);
    await tellToWait(entry, update, update.chatId, notice);
    return defer(entry, notice);
  }

  async function wake(tenant: RouteTenant): Promise<void> {
    const now = ctx.clock.now().getTime();
    if (now - (wokenAt.get(tenant.id) ?? 0) < WAKE_PERIOD_MS) return;
    if (wokenAt.size > MAX_WOKEN) wokenAt.clear();
    wokenAt.set(tenant.id, now);
    await wakeTenant(ctx, tenant.id);
    if (tenant.telegramChatId === null) return;
    // Nobody waits for it, and nothing hangs on it.
    ctx.botApi
      ?.showTyping(tenant.telegramChatId)
      .catch((error: unknown) => ctx.log.debug({ tenantId: tenant.id, error }, "typing could not be shown"));
  }

  async function tellToWait(
    entry: Entry,
    update: UpdateFacts,
    chatId: number | null | undefined,
    notice: "preparing" | "waking",
  ): Promise<void> {
    if (chatId == null || !isSpoken(update) || ctx.clock.now().getTime() - entry.acceptedAt.getTime() < PATIENCE_MS)
      return;
    await say(chatId, notice, NOTICE_PERIOD_MS, TEXTS[notice]());
  }

  /** Where whoever is told of `topic` goes on. */
  async function linkFor(topic: AnswerTopic, tenantId: TenantId | undefined): Promise<string | undefined> {
    return tenantId !== undefined && PAY_TOPICS.has(topic) ? ctx.payLinks(tenantId) : ctx.signupUrl;
  }

  async function answer(entry: Entry, topic: AnswerTopic, tenantId: TenantId | undefined): Promise<Step> {
    const period = topic === "privateOnly" ? NEVER_AGAIN_MS : topic === "onboarding" ? HOUR_MS : MINUTE_MS;
    const said = await say(entry.lane, topic, period, async () => TEXTS[topic](await linkFor(topic, tenantId)));
    return said === "later" ? sayLater(entry) : finish("answered", topic);
  }

  async function expire(entry: Entry, update: UpdateFacts, reason: string): Promise<Step> {
    if (update.chatId === undefined || !isSpoken(update)) return finish("dead", reason);
    const text = TEXTS.undelivered(update.sentAt ?? entry.acceptedAt);
    const said = await say(update.chatId, `expired:${entry.seq}`, 0, text);
    // Its sender is told the truth, if Telegram can be reached for it within a while.
    const waitedMs = ctx.clock.now().getTime() - entry.acceptedAt.getTime();
    return said === "later" && waitedMs < APOLOGY_MS ? defer(entry, "telegram-unreachable") : finish("dead", reason);
  }

  async function link(entry: Entry, update: UpdateFacts, token: string): Promise<Step> {
    const chatId = entry.lane;
    const outcome = await consumeLink(ctx, token, {
      chatId,
      userId: update.userId ?? chatId,
      username: update.username,
    });
    const text = await linkAnswer(outcome, chatId);
    const said = await say(chatId, `link:${entry.seq}`, 0, text);
    // The token is used up by now: coming back finds the chat linked and says so.
    return said === "later" ? sayLater(entry) : finish("answered", `link ${outcome.kind}`);
  }

  async function linkAnswer(outcome: Awaited<ReturnType<typeof consumeLink>>, chatId: number): Promise<string> {
    if (outcome.kind === "linked") return TEXTS.linked(outcome.tenant.displayName);
    if (outcome.kind === "chat-taken") return TEXTS.chatTaken();
    return (await ctx.routes.submit(chatId)) === undefined ? TEXTS.linkInvalid() : TEXTS.alreadyLinked();
  }

  function sayLater(entry: Entry): Step {
    const isTooLate = isStale({ now: ctx.clock.now(), acceptedAt: entry.acceptedAt });
    return isTooLate
      ? finish("ignored", "Telegram could not be reached in time")
      : defer(entry, "telegram-unreachable");
  }

  /** More than the limit allows: said once a minute, dropped and counted as such. */
  async function drop(entry: Entry): Promise<Step> {
    const said = await say(entry.lane, "tooFast", MINUTE_MS, TEXTS.tooFast());
    return said === "later" ? sayLater(entry) : finish("dropped", "over the rate limit");
  }

  function recall(entry: Entry): Memory {
    const memory = memories.get(entry) ?? { tries: 0, breaks: 0, refusals: 0, isWithinLimit: undefined };
    memories.set(entry, memory);
    return memory;
  }

  /** Waits a little longer each time, two seconds at most: a runtime that has come up should not be kept waiting. */
  function defer(entry: Entry, reason: DeferReason): Step {
    ctx.observer.deferred(reason);
    const memory = recall(entry);
    const delayMs = Math.min(2_000, 100 * 2 ** Math.min(memory.tries, 5));
    memory.tries += 1;
    return { kind: "defer", delayMs };
  }
}

function finish(outcome: Extract<Step, { kind: "finish" }>["outcome"], reason?: string): Step {
  return { kind: "finish", outcome, reason };
}
