import { createHash, randomBytes } from "node:crypto";
import { writeAudit } from "../platform/audit.ts";
import { addMs } from "../platform/clock.ts";
import { isUniqueViolation } from "../platform/db.ts";
import { ConflictError } from "../platform/errors.ts";
import type { TenantId } from "../platform/ids.ts";
import * as store from "./store.ts";
import { enqueueConverge, lockTenant, type TenantsContext } from "./status.ts";
import type { Tenant } from "./store.ts";

const LINK_LIFETIME_MS = 15 * 60_000;

/** 32 random bytes as 43 characters of base64url: within the 64 that a `/start` payload may have. */
function newToken(): string {
  return randomBytes(32).toString("base64url");
}

function hashToken(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

/**
 * A new single-use link token, valid 15 minutes; older ones of the tenant are revoked. The token itself is returned once
 * and kept nowhere.
 * @throws ConflictError when the tenant is deleted or on its way there.
 */
export async function createLink(ctx: TenantsContext, tenantId: TenantId): Promise<{ token: string; expiresAt: Date }> {
  const token = newToken();
  const now = ctx.clock.now();
  const expiresAt = addMs(now, LINK_LIFETIME_MS);
  await ctx.db.transaction().execute(async (tx) => {
    requireLinkable(await lockTenant(tx, tenantId));
    await store.revokeLinkTokens(tx, tenantId, now);
    await store.insertLinkToken(tx, { tokenHash: hashToken(token), tenantId, createdAt: now, expiresAt });
    await writeAudit(tx, { at: now, actor: ctx.actor, action: "tenant.link-created", tenantId });
  });
  return { token, expiresAt };
}

export type TelegramPerson = { chatId: number; userId: number; username: string | undefined };

export type LinkOutcome =
  | { kind: "linked"; tenant: Tenant }
  /** The token is unknown, used, revoked or too old, or its tenant is deleted or on its way there. */
  | { kind: "invalid" }
  /** The chat belongs to another tenant; the token stays usable. */
  | { kind: "chat-taken"; tenant: Tenant };

/** Uses up a token and binds the chat, atomically: of two taps at once, one links and the other finds it already done. */
export async function consumeLink(ctx: TenantsContext, token: string, person: TelegramPerson): Promise<LinkOutcome> {
  try {
    return await ctx.db.transaction().execute(async (tx) => {
      const tokenHash = hashToken(token);
      const tenantId = await store.findLinkTokenTenant(tx, tokenHash);
      if (tenantId === undefined) return { kind: "invalid" };
      // The tenant before its tokens, in the order in which a new link locks them.
      const tenant = await lockTenant(tx, tenantId);
      if (!isLinkable(tenant)) return { kind: "invalid" };
      if (!(await store.consumeLinkToken(tx, tokenHash, ctx.clock.now()))) return { kind: "invalid" };
      return { kind: "linked", tenant: await bindChat({ ...ctx, db: tx }, tenantId, person) };
    });
  } catch (error) {
    // The token's use was rolled back with the transaction.
    if (!isUniqueViolation(error)) throw error;
    const holder = await store.findByChat(ctx.db, person.chatId);
    if (holder === undefined) throw error;
    return { kind: "chat-taken", tenant: holder };
  }
}

/**
 * Binds a chat to a tenant by an operator's word.
 * @throws ConflictError when the chat belongs to another tenant, or the tenant is deleted or on its way there.
 */
export async function linkChat(ctx: TenantsContext, tenantId: TenantId, person: TelegramPerson): Promise<Tenant> {
  try {
    return await ctx.db.transaction().execute(async (tx) => {
      requireLinkable(await lockTenant(tx, tenantId));
      return bindChat({ ...ctx, db: tx }, tenantId, person);
    });
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    const holder = await store.findByChat(ctx.db, person.chatId);
    if (holder === undefined) throw error;
    const remedy = `Unlink it first: openclaw tenant unlink ${holder.slug}`;
    throw new ConflictError(
      "chat_taken",
      `The Telegram chat ${person.chatId} belongs to tenant ${holder.slug}. ${remedy}`,
      {
        cause: error,
      },
    );
  }
}

function isLinkable({ status }: Tenant): boolean {
  return status !== "deleted" && status !== "deprovisioning";
}

function requireLinkable(tenant: Tenant): void {
  if (isLinkable(tenant)) return;
  throw new ConflictError("tenant_gone", `Tenant ${tenant.slug} is ${tenant.status}; it can't be linked.`);
}

/** The caller holds the tenant's lock. */
async function bindChat(ctx: TenantsContext, tenantId: TenantId, person: TelegramPerson): Promise<Tenant> {
  const now = ctx.clock.now();
  const tenant = await store.update(ctx.db, tenantId, {
    telegramChatId: person.chatId,
    telegramUserId: person.userId,
    telegramUsername: person.username ?? null,
    updatedAt: now,
  });
  await writeAudit(ctx.db, {
    at: now,
    actor: ctx.actor,
    action: "tenant.linked",
    tenantId,
    detail: { chatId: person.chatId },
  });
  await enqueueConverge(ctx.db, tenantId);
  return tenant;
}

/** Frees the tenant's chat and revokes waiting links; unlinking an unlinked tenant changes nothing. */
export async function unlinkChat(ctx: TenantsContext, tenantId: TenantId): Promise<Tenant> {
  return ctx.db.transaction().execute(async (tx) => {
    const before = await lockTenant(tx, tenantId);
    const now = ctx.clock.now();
    await store.revokeLinkTokens(tx, tenantId, now);
    if (before.telegramChatId === null) return before;
    const tenant = await store.update(tx, tenantId, {
      telegramChatId: null,
      telegramUserId: null,
      telegramUsername: null,
      updatedAt: now,
    });
    await writeAudit(tx, {
      at: now,
      actor: ctx.actor,
      action: "tenant.unlinked",
      tenantId,
      detail: { chatId: before.telegramChatId },
    });
    await enqueueConverge(tx, tenantId);
    return tenant;
  });
}
