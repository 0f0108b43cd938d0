import type { Insertable, Updateable } from "kysely";
import type { Db } from "../platform/db.ts";
import { ConflictError } from "../platform/errors.ts";
import type { Log } from "../platform/log.ts";
import { pause, repeat } from "../platform/pause.ts";
import type { Connections } from "../platform/schema.ts";
import type { Connection } from "./connection.ts";
import { giveLeaseBack, lockLease, renewLease, takeLease } from "./lease-store.ts";
import * as store from "./store.ts";
import type { ConnectionKey } from "./store.ts";

const RENEW_MS = 5_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 250;

type LeaseContext = { db: Db; log: Log };
type Change = Omit<Updateable<Connections>, "tenantId" | "provider">;
type NewConnection = Omit<Insertable<Connections>, "tenantId" | "provider">;
/** What else is to be done if, and only if, the change is. It must not wait for anybody else's lease. */
type Also = (tx: Db) => Promise<void>;

/** One who has a connection's lease: the only one to write its tokens, for as long as nobody has taken it after him. */
export type Held = {
  key: ConnectionKey;
  fence: number;
  /** As it was when the lease was taken; nobody else changes its tokens, state or grant since. Undefined: there is none. */
  connection: Connection | undefined;
  /**
   * Renews the lease. To be asked just before something that must not be done twice, or too late: spending a refresh token, deleting a
   * secret. @returns false when this one was overtaken; otherwise nobody else can begin for another 10 s.
   */
  secure(): Promise<boolean>;
  /** Changes the connection. @returns false, having changed nothing, when this one was overtaken or the connection is gone. */
  promote(change: Change, also?: Also): Promise<boolean>;
  /** Makes the connection, or another in its place. @returns false, having changed nothing, when this one was overtaken. */
  establish(row: NewConnection, also?: Also): Promise<boolean>;
};

/**
 * Takes the lease of a connection, whether or not the connection is there, runs `work` with it and gives it back. It is renewed
 * while `work` goes on; whoever stalls for so long that it runs out may be overtaken, which `promote` finds out. Who waits for
 * `patienceMs` in vain, or is aborted meanwhile, throws; `work` itself is never cut off.
 * @throws ConflictError `connection_busy`.
 */
export async function withLease<Result>(
  ctx: LeaseContext,
  key: ConnectionKey,
  { patienceMs, signal }: { patienceMs: number; signal?: AbortSignal },
  work: (held: Held) => Promise<Result>,
): Promise<Result> {
  const deadline = performance.now() + patienceMs;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = nextPause(pauseMs)) {
    signal?.throwIfAborted();
    const done = await tryLease(ctx, key, async (held) => ({ result: await work(held) }));
    if (done !== undefined) return done.result;
    if (performance.now() >= deadline) {
      throw new ConflictError("connection_busy", `The connection to ${key.provider} is in use. Try again in a moment.`);
    }
    await pause(pauseMs, signal ?? new AbortController().signal);
  }
}

/** How long to wait before another look, after one of `pauseMs`. */
export function nextPause(pauseMs: number): number {
  return Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
}

/** The same without waiting. @returns undefined while another has the lease. */
export async function tryLease<Result extends object>(
  ctx: LeaseContext,
  key: ConnectionKey,
  work: (held: Held) => Promise<Result>,
): Promise<Result | undefined> {
  const fence = await takeLease(ctx.db, key);
  if (fence === undefined) return undefined;
  const endLease = keepLease(ctx, key, fence);
  try {
    return await work(await hold(ctx, key, fence));
  } finally {
    await endLease();
  }
}

async function hold({ db }: LeaseContext, key: ConnectionKey, fence: number): Promise<Held> {
  /** `write` is done if this one still has the lease, which nobody can take before that is done. */
  const underFence = (write: (tx: Db) => Promise<boolean>, also?: Also): Promise<boolean> =>
    db.transaction().execute(async (tx) => {
      if (!(await lockLease(tx, key, fence)) || !(await write(tx))) return false;
      await also?.(tx);
      return true;
    });
  return {
    key,
    fence,
    connection: await store.find(db, key),
    async secure() {
      for (;;) {
        const askedAt = performance.now();
        if (!(await renewLease(db, key, fence))) return false;
        // An answer that was long on its way, or lay here while the process was stopped, tells nothing of now.
        if (performance.now() - askedAt < RENEW_MS) return true;
      }
    },
    promote: (change, also) => underFence((tx) => store.update(tx, key, change), also),
    establish: (row, also) =>
      underFence(async (tx) => {
        await store.replace(tx, { ...row, ...key });
        return true;
      }, also),
  };
}

/** @returns what ends it. */
function keepLease(ctx: LeaseContext, key: ConnectionKey, fence: number): () => Promise<void> {
  const ended = new AbortController();
  const loop = repeat(RENEW_MS, ended.signal, async () => {
    await renewLease(ctx.db, key, fence).catch((error: unknown) =>
      ctx.log.warn({ error, ...key }, "the lease of a connection could not be renewed, will be tried again"),
    );
  });
  return async () => {
    ended.abort();
    await loop;
    // Without a database it runs out by itself.
    await giveLeaseBack(ctx.db, key, fence).catch((error: unknown) =>
      ctx.log.warn({ error, ...key }, "the lease of a connection could not be given back"),
    );
  };
}
