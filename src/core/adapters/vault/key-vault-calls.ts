import { setTimeout as delay } from "node:timers/promises";
import { UpstreamError } from "../../platform/errors.ts";
import { createSlots } from "../../platform/slots.ts";

/**
 * A vault takes 300 new versions and 4,000 other requests in 10 s, from all daemons together
 * (https://learn.microsoft.com/azure/key-vault/general/service-limits). With answers after 50 to 100 ms, these keep one daemon
 * near it; what is beyond is answered with 429 and costs nothing but time.
 */
const WRITES_AT_ONCE = 4;
const OTHERS_AT_ONCE = 16;

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5_000;
/** Where many wait their turn and none comes on, the vault is in trouble. */
const TURN_MS = 60_000;

/** For a call with its repetitions. The SDK's own time limit would keep the process alive until it is over. */
type TimeLimit = { abortSignal: AbortSignal };

/**
 * Has requests to one vault made, so many at once, each within `patienceMs`. The SDK repeats what failed on the way, and a 429 that
 * says when, three times; a 429 that doesn't say is left to its caller, which is here.
 * @throws UpstreamError when no turn comes; else what `work` throws.
 */
export function createKeyVaultCalls({ patienceMs }: { patienceMs: number }) {
  const slots = { write: createSlots(WRITES_AT_ONCE), other: createSlots(OTHERS_AT_ONCE) };
  return function call<Result>(
    kind: keyof typeof slots,
    work: (limit: TimeLimit) => Promise<Result>,
    withinMs = patienceMs,
  ): Promise<Result> {
    const askedAt = performance.now();
    return slots[kind].use(() => {
      if (performance.now() - askedAt > TURN_MS) throw busy("has others to answer for longer than a minute");
      return repeatThrottled(withinMs, work);
    });
  };
}

async function repeatThrottled<Result>(
  patienceMs: number,
  work: (limit: TimeLimit) => Promise<Result>,
): Promise<Result> {
  const limit = { abortSignal: AbortSignal.timeout(patienceMs) };
  const deadline = performance.now() + patienceMs;
  let throttled: unknown;
  for (let longestMs = FIRST_PAUSE_MS; ; longestMs = Math.min(2 * longestMs, LONGEST_PAUSE_MS)) {
    // Not all at once again.
    const pauseMs = longestMs * (0.5 + Math.random() / 2);
    try {
      return await work(limit);
    } catch (error) {
      if (statusOf(error) !== 429) throw (isAborted(error) ? throttled : undefined) ?? error;
      if (performance.now() + pauseMs > deadline) throw error;
      throttled = error;
    }
    await delay(pauseMs);
  }
}

function isAborted(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

export function busy(why: string): UpstreamError {
  return new UpstreamError("vault_busy", `Key Vault ${why}; try again later.`, {
    service: "key-vault",
    retryable: true,
  });
}

export function statusOf(error: unknown): number | undefined {
  return error instanceof Error && "statusCode" in error && typeof error.statusCode === "number"
    ? error.statusCode
    : undefined;
}

/** Why it is a conflict, as the body's inner error says. */
export function innerCode(error: unknown): string | undefined {
  // As the SDK names it; the body has it in lower case.
  const code = field(field(field(field(error, "details"), "error"), "innerError"), "code");
  return typeof code === "string" ? code : undefined;
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}

/** In our words: the SDK's errors hold requests with their headers. */
export function explain(error: unknown, what: string): UpstreamError {
  if (error instanceof UpstreamError) return error;
  const { code, why } = reasonOf(error);
  return new UpstreamError(code, `${what}: ${why}.`, {
    service: "key-vault",
    retryable: true,
    cause: new Error(error instanceof Error ? error.message : String(error)),
  });
}

function reasonOf(error: unknown): { code: string; why: string } {
  const status = statusOf(error);
  if (status === 401 || status === 403) {
    const why = "this identity may not do that in the vault, or may not yet: roles take minutes to come into force";
    return { code: "vault_forbidden", why };
  }
  if (status === 429)
    return { code: "vault_throttled", why: "Key Vault is asked for more than it takes in 10 seconds" };
  if (status !== undefined) return { code: "vault_failed", why: `Key Vault answered with status ${status}` };
  if (isAborted(error))
    return { code: "vault_failed", why: "Key Vault did not answer in time, or asked to be left alone for longer" };
  return { code: "vault_failed", why: "Key Vault can't be reached, or there is no identity to ask with" };
}
