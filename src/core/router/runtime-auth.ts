import { hash, timingSafeEqual } from "node:crypto";
import { CREDENTIAL_CACHE_MS, type Credential } from "../orchestrator/orchestrator.ts";
import type { Clock } from "../platform/clock.ts";
import { parseTenantId, type TenantId } from "../platform/ids.ts";

export type RuntimeCredentialKind = "telegram-token" | "model-key";

export type RuntimeCredentials = {
  /** The SHA-256 of what a tenant's runtime may present, two while its keys are rotated; none when the tenant is unknown or has none. */
  find(tenantId: TenantId, kind: RuntimeCredentialKind): Promise<readonly Credential[]>;
};

export type RuntimeAuth = {
  /** The tenant when `presented` is a credential of its, otherwise undefined: an unknown tenant looks like a wrong credential. */
  authenticate(tenantId: string, kind: RuntimeCredentialKind, presented: string): Promise<TenantId | undefined>;
  /** Forgets what is cached of a tenant; a look-up already under way is not kept either. */
  invalidate(tenantId: TenantId): void;
};

type Cached = { expiresAt: number; credentials: Promise<readonly Credential[]> };

const CACHE_ENTRIES = 10_000;
/** As many as there are while keys are rotated: every refusal compares with so many. */
const COMPARED = 2;
/** Compared with when there is nothing to compare with, so that all refusals do the same work. No preimage is known. */
const NO_CREDENTIAL = Buffer.alloc(32);

/** Checks the credentials of runtimes, remembering look-ups (absent ones too) for a few seconds. */
export function createRuntimeAuth(deps: { credentials: RuntimeCredentials; clock: Clock }): RuntimeAuth {
  const cache = new Map<string, Cached>();

  function find(tenantId: TenantId, kind: RuntimeCredentialKind): Promise<readonly Credential[]> {
    const key = `${kind}:${tenantId}`;
    const now = deps.clock.now().getTime();
    const cached = cache.get(key);
    if (cached !== undefined && cached.expiresAt > now) return cached.credentials;

    const entry = { expiresAt: now + CREDENTIAL_CACHE_MS, credentials: deps.credentials.find(tenantId, kind) };
    // Deleting first moves the key to the end: eviction takes the oldest look-up.
    cache.delete(key);
    cache.set(key, entry);
    entry.credentials.catch(() => {
      if (cache.get(key) === entry) cache.delete(key);
    });
    const oldest = cache.keys().next();
    if (cache.size > CACHE_ENTRIES && oldest.done !== true) cache.delete(oldest.value);
    return entry.credentials;
  }

  return {
    async authenticate(tenantIdText, kind, presented) {
      const tenantId = parseTenantId(tenantIdText);
      const known = tenantId === undefined ? [] : await find(tenantId, kind);
      const now = deps.clock.now();
      const actual = hash("sha256", presented, "buffer");
      let isKnown = false;
      for (let index = 0; index < Math.max(COMPARED, known.length); index += 1) {
        const credential = known[index];
        const isEqual = timingSafeEqual(actual, credential?.sha256 ?? NO_CREDENTIAL);
        // What was remembered before it expired has expired all the same.
        const holds = credential !== undefined && (credential.expiresAt === null || credential.expiresAt > now);
        isKnown ||= isEqual && holds;
      }
      return isKnown ? tenantId : undefined;
    },
    invalidate(tenantId) {
      cache.delete(`telegram-token:${tenantId}`);
      cache.delete(`model-key:${tenantId}`);
    },
  };
}
