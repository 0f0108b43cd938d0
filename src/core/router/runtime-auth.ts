import { hash, timingSafeEqual } from "node:crypto";
import type { Clock } from "../platform/clock.ts";
import { parseTenantId, type TenantId } from "../platform/ids.ts";

export type RuntimeCredentialKind = "telegram-token" | "model-key";

export type RuntimeCredentials = {
  /** The SHA-256 of what a tenant's runtime must present; undefined when the tenant is unknown or has none. */
  find(tenantId: TenantId, kind: RuntimeCredentialKind): Promise<Buffer | undefined>;
};

export type RuntimeAuth = {
  /** The tenant when `presented` is its credential, otherwise undefined: an unknown tenant looks like a wrong credential. */
  authenticate(tenantId: string, kind: RuntimeCredentialKind, presented: string): Promise<TenantId | undefined>;
  /** Forgets what is cached of a tenant; a look-up already under way is not kept either. */
  invalidate(tenantId: TenantId): void;
};

type Cached = { expiresAt: number; hash: Promise<Buffer | undefined> };

const CACHE_MS = 5_000;
const CACHE_ENTRIES = 10_000;
/** Compared with when there is nothing to compare with, so that both refusals do the same work. No preimage is known. */
const NO_CREDENTIAL = Buffer.alloc(32);

/** Checks the credentials of runtimes, remembering look-ups (absent ones too) for a few seconds. */
export function createRuntimeAuth(deps: { credentials: RuntimeCredentials; clock: Clock }): RuntimeAuth {
  const cache = new Map<string, Cached>();

  function find(tenantId: TenantId, kind: RuntimeCredentialKind): Promise<Buffer | undefined> {
    const key = `${kind}:${tenantId}`;
    const now = deps.clock.now().getTime();
    const cached = cache.get(key);
    if (cached !== undefined && cached.expiresAt > now) return cached.hash;

    const entry = { expiresAt: now + CACHE_MS, hash: deps.credentials.find(tenantId, kind) };
    // Deleting first moves the key to the end: eviction takes the oldest look-up.
    cache.delete(key);
    cache.set(key, entry);
    entry.hash.catch(() => {
      if (cache.get(key) === entry) cache.delete(key);
    });
    const oldest = cache.keys().next();
    if (cache.size > CACHE_ENTRIES && oldest.done !== true) cache.delete(oldest.value);
    return entry.hash;
  }

  return {
    async authenticate(tenantIdText, kind, presented) {
      const tenantId = parseTenantId(tenantIdText);
      const expected = tenantId === undefined ? undefined : await find(tenantId, kind);
      const actual = hash("sha256", presented, "buffer");
      const isEqual = timingSafeEqual(actual, expected ?? NO_CREDENTIAL);
      return isEqual && expected !== undefined ? tenantId : undefined;
    },
    invalidate(tenantId) {
      cache.delete(`telegram-token:${tenantId}`);
      cache.delete(`model-key:${tenantId}`);
    },
  };
}
