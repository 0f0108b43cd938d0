import { tenantSecretName, type Vault } from "../adapters/vault/vault.ts";
import type { RuntimeRoute } from "../orchestrator/orchestrator.ts";
import type { TenantId } from "../platform/ids.ts";
import type { Delivery, DeliveryResult } from "./delivery.ts";

/** One that somebody changed is noticed by the runtime's 401. */
const CACHE_MS = 10 * 60_000;
const CACHE_SIZE = 10_000;

/** Which keys a runtime has, as far as is known. */
type KeyGenerations = Pick<RuntimeRoute, "keyGeneration" | "otherKeyGeneration">;

/**
 * Posts updates to runtimes with their own webhook secrets: with that of the keys which the runtime was seen to have, and where that is
 * refused while they are rotated, once more with the other one. The vault isn't asked for every update.
 */
export function createWebhookSecrets(ctx: { vault: Vault; delivery: Delivery }) {
  const cache = new Map<string, { secret: string; until: number }>();

  async function find(name: string): Promise<string | undefined> {
    const cached = cache.get(name);
    if (cached !== undefined && performance.now() < cached.until) return cached.secret;
    const secret = await ctx.vault.get(name);
    if (cache.size >= CACHE_SIZE) cache.clear();
    if (secret !== undefined) cache.set(name, { secret, until: performance.now() + CACHE_MS });
    return secret;
  }

  return {
    async post(
      tenantId: TenantId,
      { keyGeneration, otherKeyGeneration }: KeyGenerations,
      update: { address: string; body: Buffer },
    ): Promise<DeliveryResult> {
      let result: DeliveryResult = { kind: "unavailable", reason: "its webhook secret is not in the vault" };
      for (const generation of otherKeyGeneration === null ? [keyGeneration] : [keyGeneration, otherKeyGeneration]) {
        const name = tenantSecretName(tenantId, "webhook-secret", generation);
        const secret = await find(name);
        if (secret === undefined) continue;
        result = await ctx.delivery.post(update.address, secret, update.body);
        if (result.kind !== "unauthorized") return result;
        cache.delete(name);
      }
      return result;
    },
  };
}
