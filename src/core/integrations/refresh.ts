import type { Vault } from "../adapters/vault/vault.ts";
import { addMs } from "../platform/clock.ts";
import { OpenClawError } from "../platform/errors.ts";
import { pause } from "../platform/pause.ts";
import type { Connection } from "./connection.ts";
import { type Ask, decide, type Gone } from "./decision.ts";
import type { IntegrationsContext } from "./integrations-context.ts";
import { type Held, nextPause, tryLease } from "./lease.ts";
import { recoverTokens, settleOvertaken, type WithTokens } from "./recovery.ts";
import { fail, type Overtaken, type Refresh, spend } from "./spend.ts";
import * as store from "./store.ts";
import type { ConnectionKey, Standing } from "./store.ts";

export type Renewal =
  | Gone
  | ({ kind: "renewed" } & WithTokens)
  /** What is there will do. */
  | { kind: "present"; connection: Connection }
  | { kind: "unavailable"; code: string; retryAt: Date; connection: Connection };

/** Longer than a lease: whoever waits for one that was killed goes on himself. */
export const LEASE_PATIENCE_MS = 30_000;
const FIRST_PAUSE_MS = 50;
/** It is not for one who waits to end what others wait for, too. */
const never = new AbortController().signal;

type Flight = { begunAt: number; renewal: Promise<Renewal> };
type Flights = { all: Set<Flight>; latest: Map<string, Flight> };

/** What is under way in this process, by its vault: the one thing that a daemon has one of. */
const flights = new WeakMap<Vault, Flights>();

/**
 * Renews a connection's tokens if `ask` needs it. Those who ask the same at once share one answer; between processes the lease sees to it
 * that one refreshes and the others find what it did. It goes on though nobody waits any more.
 */
export function renewConnection(ctx: IntegrationsContext, key: ConnectionKey, ask: Ask): Promise<Renewal> {
  const { all, latest } = flightsOf(ctx);
  const name = [key.tenantId, key.provider, ask.askedBy, ask.minRemainingMs].join(" ");
  const begunAt = performance.now();
  const joined = latest.get(name);
  // One that takes longer may never end, if its database has gone dead unnoticed.
  if (joined !== undefined && begunAt - joined.begunAt < LEASE_PATIENCE_MS) return joined.renewal;
  const flight = { begunAt, renewal: renew(ctx, key, ask) };
  all.add(flight);
  latest.set(name, flight);
  const land = () => {
    all.delete(flight);
    if (latest.get(name) === flight) latest.delete(name);
  };
  // Whoever waits hears of a failure; there may be nobody.
  flight.renewal.then(land, land);
  return flight.renewal;
}

/** Resolves when nothing is under way in this process: what was got from a provider is kept by then. */
export async function settleRefreshes(ctx: Pick<IntegrationsContext, "vault">): Promise<void> {
  await Promise.allSettled([...flightsOf(ctx).all].map(({ renewal }) => renewal));
}

function flightsOf({ vault }: Pick<IntegrationsContext, "vault">): Flights {
  const known = flights.get(vault) ?? { all: new Set(), latest: new Map() };
  flights.set(vault, known);
  return known;
}

async function renew(ctx: IntegrationsContext, key: ConnectionKey, ask: Ask): Promise<Renewal> {
  const deadline = performance.now() + LEASE_PATIENCE_MS;
  const first = await store.findStanding(ctx.db, key);
  let standing = first;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = nextPause(pauseMs)) {
    const verdict = decide(standing, ask, first?.connection, ctx.clock.now());
    if (verdict.kind !== "renew") return verdict;
    const turn = { ask, standing: verdict.standing, first: first?.connection };
    let mine = verdict.standing.connection;
    const renewal = await tryLease(ctx, key, (held) => {
      mine = held.connection ?? mine;
      return renewHeld(ctx, held, turn);
    });
    if (renewal !== undefined && renewal.kind !== "overtaken") return renewal;
    if (renewal !== undefined) await settle(ctx, mine, ask);
    // Whoever sweeps has others to look after; who has the lease is at this one, or the next sweep is.
    if (ask.askedBy === "sweep" || performance.now() >= deadline) return busy(ctx, verdict.standing.connection);
    await pause(pauseMs, never);
    standing = await store.findStanding(ctx.db, key);
  }
}

/** Whatever stands in its way is no worse than having been overtaken: the next one to renew looks for what was written, too. */
async function settle(ctx: IntegrationsContext, connection: Connection, { askedBy }: Ask): Promise<void> {
  await settleOvertaken(ctx, connection, askedBy).catch((error: unknown) => {
    if (!(error instanceof OpenClawError)) throw error;
    const { tenantId, provider } = connection;
    ctx.log.error({ error, tenantId, provider }, "what an overtaken refresh left could not be cleared");
  });
}

function busy({ clock }: IntegrationsContext, connection: Connection): Renewal {
  return { kind: "unavailable", code: "connection_busy", retryAt: addMs(clock.now(), 5_000), connection };
}

type Turn = { ask: Ask; standing: Standing; first: Connection | undefined };

/** What one who has the lease does. Whatever was so before it was had may have changed. */
async function renewHeld(ctx: IntegrationsContext, held: Held, { ask, ...turn }: Turn): Promise<Renewal | Overtaken> {
  if (held.connection === undefined) return { kind: "gone", state: "absent", reason: null };
  const standing = { ...turn.standing, connection: held.connection };
  const isStillWanted = (connection: Connection) =>
    decide({ ...standing, connection }, ask, turn.first, ctx.clock.now());
  const verdict = isStillWanted(held.connection);
  if (verdict.kind !== "renew") return verdict;
  const { connection } = verdict.standing;
  const client = ctx.providers.find(held.key.provider)?.client;
  if (client === undefined) return refuse(ctx, "client_missing", connection);
  const refresh: Refresh = { ...ctx, held, ask, client, begun: performance.now() };
  try {
    const found = await recoverTokens(ctx, held, connection, ask.askedBy);
    if (found === "overtaken") return { kind: "overtaken" };
    if (found?.isRecovered === true && isStillWanted(found.connection).kind !== "renew") {
      return { kind: "renewed", connection: found.connection, tokens: found.tokens };
    }
    return await spendIfAllowed(refresh, standing, found ?? { connection, tokens: undefined });
  } catch (error) {
    // A vault that does not answer is one more trouble that passes.
    if (!(error instanceof OpenClawError)) throw error;
    ctx.log.warn({ error, ...held.key }, "the tokens of a connection could not be renewed");
    return fail(refresh, connection, { outcome: "failed", code: error.code });
  }
}

/** While the provider refuses our client, one at a time finds out whether it still does; an operator may have mended it just now. */
async function spendIfAllowed(
  refresh: Refresh,
  { clientTrouble }: Standing,
  { connection, tokens }: { connection: Connection; tokens: WithTokens["tokens"] | undefined },
): Promise<Renewal | Overtaken> {
  const { db, held, ask, clock } = refresh;
  if (clientTrouble === undefined) return spend(refresh, connection, tokens);
  if (
    ask.askedBy !== "operator" &&
    !(await store.takeProbe(db, held.key.provider, clock.now(), store.PROBE_EVERY_MS))
  ) {
    return refuse(refresh, "client_refused", connection);
  }
  const outcome = await spend(refresh, connection, tokens);
  // Who judges a grant has taken our client.
  const isTaken = outcome.kind === "renewed" || (outcome.kind === "gone" && outcome.reason !== "not_renewable");
  if (isTaken) await store.endClientTrouble(db, held.key.provider, clock.now());
  return outcome;
}

function refuse({ clock }: Pick<IntegrationsContext, "clock">, code: string, connection: Connection): Renewal {
  return { kind: "unavailable", code, retryAt: addMs(clock.now(), store.PROBE_EVERY_MS), connection };
}
