import { createHash, randomBytes, randomInt } from "node:crypto";
import {
  TENANT_SECRETS,
  tenantSecretName,
  tenantSecretPrefix,
  type TenantSecret,
  type Vault,
} from "../adapters/vault/vault.ts";
import type { Clock } from "../platform/clock.ts";
import type { Db } from "../platform/db.ts";
import { UpstreamError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import * as store from "./store.ts";

/** What a runtime presents to the internal listener, kept there as a hash. */
const PRESENTED = ["telegram-token", "model-key"] as const;

/**
 * Mints what is missing of the tenant's keys of a generation and leaves those that exist alone: a running runtime holds them (F45).
 * Done when every one was read back from the vault and the hashes agree with it.
 * @param beforeMinting stops a runtime that may hold a key which is no longer in the vault.
 */
export async function ensureTenantKeys(
  ctx: { db: Db; clock: Clock; vault: Vault },
  tenantId: TenantId,
  generation: number,
  beforeMinting: () => Promise<void> = async () => undefined,
): Promise<void> {
  const nameOf = (secret: TenantSecret) => tenantSecretName(tenantId, secret, generation);
  const read = TENANT_SECRETS.map(async (secret) => [secret, await ctx.vault.get(nameOf(secret))] as const);
  const keys = new Map(await Promise.all(read));
  const missing = TENANT_SECRETS.filter((secret) => keys.get(secret) === undefined);
  if (missing.length > 0) await beforeMinting();
  const mint = async (secret: TenantSecret) => keys.set(secret, await mintSecret(ctx.vault, secret, nameOf(secret)));
  await Promise.all(missing.map(mint));
  for (const kind of PRESENTED) {
    const sha256 = createHash("sha256")
      .update(keys.get(kind) ?? "")
      .digest();
    await store.putCredential(ctx.db, { tenantId, kind, generation, sha256, createdAt: ctx.clock.now() });
  }
}

async function mintSecret(vault: Vault, secret: TenantSecret, name: string): Promise<string> {
  await vault.set(name, randomKey(secret));
  const written = await vault.get(name);
  if (written !== undefined) return written;
  throw new UpstreamError("vault_write_lost", `The secret ${name} was written but can't be read back.`, {
    service: "vault",
    retryable: true,
  });
}

function randomKey(secret: TenantSecret): string {
  const random = randomBytes(32).toString("base64url");
  // Telegram libraries expect <digits>:<secret>.
  return secret === "telegram-token" ? `${randomInt(1_000_000_000, 9_999_999_999)}:${random}` : random;
}

/** Deletes every secret of the tenant and its hashes, and reads back that none is left (F97). */
export async function removeTenantKeys(ctx: { db: Db; vault: Vault }, tenantId: TenantId): Promise<void> {
  const prefix = tenantSecretPrefix(tenantId);
  await store.deleteCredentials(ctx.db, tenantId);
  const names = await ctx.vault.list(prefix);
  await Promise.all(names.map((name) => ctx.vault.delete(name)));
  refuseLeft(await ctx.vault.list(prefix));
}

/** Deletes the tenant's keys of one generation and their hashes, and reads back that none is left. */
export async function removeGeneration(
  ctx: { db: Db; vault: Vault },
  tenantId: TenantId,
  generation: number,
): Promise<void> {
  const names = TENANT_SECRETS.map((secret) => tenantSecretName(tenantId, secret, generation));
  await store.deleteCredentials(ctx.db, tenantId, generation);
  await Promise.all(names.map((name) => ctx.vault.delete(name)));
  const values = await Promise.all(names.map((name) => ctx.vault.get(name)));
  refuseLeft(names.filter((_, index) => values[index] !== undefined));
}

function refuseLeft(left: readonly string[]): void {
  if (left.length === 0) return;
  throw new UpstreamError("vault_delete_failed", `Secrets are still there after deleting them: ${left.join(", ")}.`, {
    service: "vault",
    retryable: true,
  });
}
