import type pg from "pg";
import type { DaemonId } from "../platform/ids.ts";
import type { Log } from "../platform/log.ts";
import { repeat } from "../platform/pause.ts";
import type { Lanes } from "./lanes.ts";
import type { RouterObserver } from "./observer.ts";
import { extendLeases, type Lease, LEASE_MS, releaseAll, releaseLeases, renewLeases } from "./shard-leases.ts";

const RENEW_MS = 1_500;
const RELOAD_MS = 5_000;

type KeeperContext = { leasePool: pg.Pool; daemonId: DaemonId; log: Log; observer: RouterObserver };

/**
 * Renews the leases in a loop, opens what was won, closes what was lost or is more than the fair share. Nothing in the
 * loop waits for a runtime: one that hangs must not cost this daemon all its shards.
 */
export function keepLeases(ctx: KeeperContext, lanes: Lanes) {
  const stopping = new AbortController();
  let isGivingBack = false;
  /** Shards whose lanes are being opened, or closed to be given back. */
  const moving = new Map<number, Promise<void>>();
  let lastSuccess = performance.now();

  async function renew(): Promise<void> {
    const begun = performance.now();
    const { held, excess } = isGivingBack
      ? { held: await extendLeases(ctx.leasePool, ctx.daemonId), excess: 0 }
      : await renewLeases(ctx.leasePool, ctx.daemonId);
    lastSuccess = begun;
    const open = new Map(lanes.held().map((lease) => [lease.shard, lease.epoch]));
    const epochs = new Map(held.map((lease) => [lease.shard, lease.epoch]));
    closeLost([...open].filter(([shard, epoch]) => epochs.get(shard) !== epoch).map(([shard]) => shard));
    // Taken by a renewal that was under way when the end began; it is given back like the rest.
    if (isGivingBack) return;
    const settled = held.filter((lease) => !moving.has(lease.shard));
    const surplus = settled.slice(0, Math.max(0, excess - (held.length - settled.length)));
    for (const { shard } of surplus) move([shard], giveBack(shard));
    const won = settled.slice(surplus.length).filter((lease) => open.get(lease.shard) !== lease.epoch);
    if (won.length > 0)
      move(
        won.map((lease) => lease.shard),
        lanes.open(won),
      );
  }

  function closeLost(shards: readonly number[]): void {
    if (shards.length === 0) return;
    ctx.log.warn({ shards: shards.length }, "shards were lost");
    ctx.observer.shardsLost(shards.length);
    void lanes.close(shards);
  }

  function move(shards: readonly number[], work: Promise<void>): void {
    const moved = work
      .catch((error: unknown) => ctx.log.error({ error }, "shards could not change hands, will be tried again"))
      .finally(() => shards.forEach((shard) => moving.delete(shard)));
    for (const shard of shards) moving.set(shard, moved);
  }

  async function giveBack(shard: number): Promise<void> {
    await lanes.close([shard]);
    await releaseLeases(ctx.leasePool, ctx.daemonId, [shard]);
  }

  async function tick(): Promise<void> {
    try {
      await renew();
    } catch (error) {
      ctx.log.error({ error }, "leases could not be renewed, will be tried again");
      // Somebody else may hold them by now.
      if (performance.now() - lastSuccess > LEASE_MS) closeLost(shardsOf(lanes.held()));
    }
  }

  async function reload(): Promise<void> {
    try {
      await lanes.reload(shardsOf(lanes.held()));
    } catch (error) {
      // Only insurance: hints and hand-overs go on meanwhile.
      ctx.log.error({ error }, "backlog could not be read, will be tried again");
    }
  }

  const first = tick().then(() => Promise.all(moving.values()));
  const loop = first.then(() => repeat(RENEW_MS, stopping.signal, tick));
  const insurance = first.then(() => repeat(RELOAD_MS, stopping.signal, reload));
  return {
    /** Settles when the first shards, if any were free, are being worked on. */
    first,
    /**
     * Gives every shard back as soon as what is under way there has ended. The others' leases are renewed until then: a
     * runtime that takes its time must neither be written to by the next owner as well, nor hold up other chats.
     */
    async stop() {
      isGivingBack = true;
      await Promise.all(moving.values());
      for (const shard of shardsOf(lanes.held())) move([shard], giveBack(shard));
      await Promise.all(moving.values());
      stopping.abort();
      await Promise.all([loop, insurance]);
      // What a renewal took at the last moment. Without a database it runs out by itself.
      await lanes.closeAll();
      await releaseAll(ctx.leasePool, ctx.daemonId).catch((error: unknown) =>
        ctx.log.warn({ error }, "leases could not be given back"),
      );
    },
  };
}

function shardsOf(leases: readonly Lease[]): number[] {
  return leases.map((lease) => lease.shard);
}
