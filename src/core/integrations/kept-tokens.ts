import { connectionSecretName, type Vault } from "../adapters/vault/vault.ts";
import { OpenClawError, UpstreamError } from "../platform/errors.ts";
import type { Log } from "../platform/log.ts";
import { pause } from "../platform/pause.ts";
import type { Connection } from "./connection.ts";
import type { ConnectionKey } from "./store.ts";
import { readTokenSet, type TokenSet, writeTokenSet } from "./token-set.ts";

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 8_000;
/** What nobody else knows is not given up sooner: a Key Vault that fails over can be read and not written for minutes. */
const INSISTENCE_MS = 10 * 60_000;

/** For so long after a vault did not take what was written, it has to show first that it does. */
const DOUBT_MS = 60_000;

/** Whose tokens: those of each consent lie apart. */
type GrantKey = Pick<Connection, "tenantId" | "provider" | "grantId">;

type KeepingContext = { vault: Vault; log: Log };

/** Until when this process doubts that a vault takes anything. */
const doubted = new WeakMap<Vault, number>();

/**
 * Writes tokens and reads back what was written. With `insists` it tries for ten minutes: of a refresh token that takes the place of a
 * spent one, there is no other copy.
 * @returns the version, which counts only once it is promoted. @throws OpenClawError.
 */
export async function keepTokens(
  ctx: KeepingContext,
  key: ConnectionKey,
  tokens: TokenSet,
  { insists }: { insists: boolean },
): Promise<string> {
  const deadline = performance.now() + (insists ? INSISTENCE_MS : 0);
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    try {
      return await keepOnce(ctx.vault, nameOf({ ...key, grantId: tokens.grantId }), writeTokenSet(tokens));
    } catch (error) {
      doubted.set(ctx.vault, performance.now() + DOUBT_MS);
      const isOver = performance.now() >= deadline;
      if (isOver && insists) ctx.log.error({ error, ...key }, "a new refresh token could not be kept, and is lost");
      if (isOver || !(error instanceof OpenClawError)) throw error;
      ctx.log.warn({ error, ...key }, "new tokens could not be kept, will be tried again");
    }
    await pause(pauseMs, new AbortController().signal);
  }
}

/**
 * To be asked before a refresh token is spent: a vault that did not take what was last written is given the tokens of before once more.
 * One that can only be read, as a Key Vault during a failover, would cost every connection whose turn it is its next refresh token.
 * @throws OpenClawError while it takes nothing.
 */
export async function proveVault(ctx: KeepingContext, key: ConnectionKey, tokens: TokenSet): Promise<void> {
  if ((doubted.get(ctx.vault) ?? 0) > performance.now()) await keepTokens(ctx, key, tokens, { insists: false });
}

function nameOf({ tenantId, provider, grantId }: GrantKey): string {
  return connectionSecretName(tenantId, provider, grantId);
}

async function keepOnce(vault: Vault, name: string, text: string): Promise<string> {
  const version = await vault.set(name, text);
  if ((await vault.getVersion(name, version)) === text) return version;
  throw new UpstreamError("tokens_not_kept", `The secret ${name} could not be read back as it was written.`, {
    service: "vault",
    retryable: true,
  });
}

/** The tokens that count; undefined when they are gone. */
export async function readTokens(
  vault: Vault,
  connection: GrantKey & Pick<Connection, "secretVersion">,
): Promise<TokenSet | undefined> {
  const text = await vault.getVersion(nameOf(connection), connection.secretVersion);
  return text === undefined ? undefined : readTokenSet(text);
}

/** The tokens that were written last, by whomever: of a refresh that was cut off before they counted, those that still work. */
export async function readNewestTokens(
  vault: Vault,
  grant: GrantKey,
): Promise<{ tokens: TokenSet; version: string } | undefined> {
  const newest = await vault.getNewest(nameOf(grant));
  return newest === undefined ? undefined : { tokens: readTokenSet(newest.value), version: newest.version };
}

/** Whether anything lies there, tokens or not. */
export async function hasTokens(vault: Vault, grant: GrantKey): Promise<boolean> {
  return (await vault.getNewest(nameOf(grant))) !== undefined;
}

export async function forgetTokens(vault: Vault, grant: GrantKey): Promise<void> {
  await vault.delete(nameOf(grant));
}
