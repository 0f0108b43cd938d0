import { DeferredError, UpstreamError } from "../../../platform/errors.ts";
import { redactText } from "../../../platform/redact.ts";

/** What Azure Resource Manager, or the way to it, says went wrong. */
export type ArmFailure = {
  /** Undefined when there was no answer, or the failure is that of an operation that had been accepted. */
  status: number | undefined;
  /** The most telling of its codes: wrappers such as `DeploymentFailed` have the reason in their details. */
  code: string | undefined;
  message: string;
  retryAfterMs: number | undefined;
};

/** The time limit of a request ran out. */
export class ArmTimeoutError extends Error {
  readonly code = "ETIMEDOUT";
}

/** Somebody else, or we ourselves, changes the same thing, or its environment. */
const BUSY = new Set([
  "ContainerAppOperationInProgress",
  "ContainerAppLockConflict",
  "ContainerAppBeingDeleted",
  "ManagedEnvironmentOperationInProgress",
  "ManagedEnvironmentLockConflict",
  "RetryableError",
  "RetryableErrorDueToAnotherOperation",
  "AnotherOperationInProgress",
  "OperationInProgress",
  "ConcurrentUpdate",
  "StorageAccountOperationInProgress",
  "ShareBeingDeleted",
]);
const BUSY_WORDS = /another (modification|operation|update) is in progress|active provisioning op|is being deleted/i;
/** Identities and roles come into force minutes after they were made, and look like mistakes until then (F50). */
const SPREADING = new Set(["PrincipalNotFound"]);
const SPREADING_WORDS = /unable to (get value|fetch secret).* using managed identity/is;
const LOCKED = "ScopeLocked";
const TELLING = new Set([...BUSY, ...SPREADING, LOCKED, "InvalidParameterValueInContainerTemplate"]);

const THROTTLED_MS = 10_000;
const BUSY_MS = 5_000;
const SPREADING_MS = 15_000;
const LONGEST_TEXT = 600;

/** As the SDKs of both generations, their pollers, and the body of a failed operation tell it; with an `error` envelope or without. */
export function readArmFailure(error: unknown): ArmFailure {
  const failure = readAsTold(error);
  return { ...failure, message: redactText(failure.message).slice(0, LONGEST_TEXT) };
}

/** Whole, for what is to be judged by it; it may hold what nobody should see. */
function readAsTold(error: unknown): ArmFailure {
  const response = field(error, "response");
  const found = findWords(error, response);
  const told = found.find(({ code }) => code !== undefined && TELLING.has(code)) ?? found[0];
  const message = [...new Set(found.map((one) => one.message).filter((text) => text !== ""))].join(" ");
  return {
    status: number(field(error, "statusCode")) ?? number(field(response, "status")),
    code: told?.code ?? text(field(error, "code")),
    message: message || (error instanceof Error ? error.message : ""),
    retryAfterMs: readRetryAfterMs((name) => header(response, name), message),
  };
}

/**
 * In our words, `what` saying what could not be done to what: a DeferredError for what passes by itself, else an UpstreamError. What is
 * neither Azure's nor the network's comes back as it is.
 */
export function explainArmError(error: unknown, what: string): Error {
  if (error instanceof UpstreamError) return error;
  if (isLoginFailure(error)) return loginFailed(error, what);
  if (!isFromAzure(error)) return error instanceof Error ? error : new Error(`${what}: ${String(error)}`);
  return findDeferral(readAsTold(error), what) ?? refusal(readArmFailure(error), what);
}

function findDeferral(failure: ArmFailure, what: string): DeferredError | undefined {
  const { status, code, message, retryAfterMs = 0 } = failure;
  const shown = { ...failure, message: redactText(message).slice(0, LONGEST_TEXT) };
  const defer = (name: string, why: string, afterMs: number) =>
    new DeferredError(name, `${what}: ${why}.`, {
      service: "azure",
      afterMs: Math.max(afterMs, retryAfterMs),
      cause: causeOf(shown),
    });
  if (status === 429) {
    const after = retryAfterMs > 0 ? retryAfterMs : THROTTLED_MS;
    return defer("azure_throttled", `Azure throttles (${code ?? status}), and is asked again later`, after);
  }
  if (status !== undefined && status >= 500) return undefined;
  const isBusy = (code !== undefined && BUSY.has(code)) || (status === 409 && BUSY_WORDS.test(message));
  if (isBusy) return defer("azure_busy", `Azure is still at another change of it (${code ?? status})`, BUSY_MS);
  if ((code !== undefined && SPREADING.has(code)) || SPREADING_WORDS.test(message)) {
    const why = "a new identity or role is not in force yet, which takes minutes";
    const remedy =
      "if it lasts, see whether the role is there, and whether the vault's firewall lets the environment in";
    return defer("azure_propagating", `${why}; ${remedy} (${tell(shown)})`, SPREADING_MS);
  }
  return undefined;
}

function refusal(failure: ArmFailure, what: string): UpstreamError {
  const { status, code, message } = failure;
  const told = tell(failure);
  const make = (name: string, retryable: boolean, why: string) =>
    new UpstreamError(name, `${what}: ${why}`, { service: "azure", retryable, cause: causeOf(failure) });
  if (code === LOCKED) return make("azure_locked", false, describeLock(message));
  if (status === undefined) {
    return isOperationFailure(failure)
      ? make("azure_failed", true, `Azure began it and failed (${told}).`)
      : make("azure_unreachable", true, `Azure can't be reached (${told}). Check the network, and its status page.`);
  }
  if (status === 401 || status === 403) {
    const remedy = "Give the identity of this control plane a role that allows it, or see who took it away.";
    return make("azure_forbidden", false, `Azure forbids it (${told}). ${remedy}`);
  }
  // An answer that was cut off says nothing of what came of the request.
  const isTransient = status === 408 || status >= 500 || status < 400;
  return isTransient
    ? make("azure_failed", true, `Azure failed (${told}).`)
    : make("azure_refused", false, `Azure refuses it (${told}).`);
}

function describeLock(message: string): string {
  const scopes = /locked: (.+?)\.?\s*(Please|$)/is.exec(message)?.[1] ?? "the resource, its group or its subscription";
  return `a lock forbids it. Remove the lock on ${scopes} (az lock list, az lock delete), and ask again.`;
}

/** Retry-After in seconds or as a date, Azure's own in milliseconds, or what the text says; undefined: nothing said. */
export function readRetryAfterMs(
  header: (name: string) => string | undefined,
  body: string | undefined,
): number | undefined {
  const milliseconds = header("x-ms-retry-after-ms") ?? header("retry-after-ms");
  if (milliseconds !== undefined && /^\d+$/.test(milliseconds)) return Number(milliseconds);
  const after = header("retry-after");
  if (after !== undefined && /^\d+(\.\d+)?$/.test(after)) return 1_000 * Number(after);
  // By the server's clock, as the date is.
  const untilMs = Date.parse(after ?? "") - Date.parse(header("date") ?? "");
  if (untilMs > 0) return untilMs;
  const seconds = /(?:try again after|retried (?:in|after)) '?(\d+)'? seconds?/i.exec(body ?? "")?.[1];
  return seconds === undefined ? undefined : 1_000 * Number(seconds);
}

type Words = { code: string | undefined; message: string };

/** Outermost first. */
function findWords(error: unknown, response: unknown): Words[] {
  const details = field(error, "details");
  // What the SDK made of the body may lack parts of it; the pollers keep nothing but code and message.
  for (const body of [parse(field(response, "bodyAsText")), field(response, "parsedBody"), details]) {
    const words = wordsIn(body);
    if (words.length > 0) return words;
  }
  if (!(error instanceof Error)) return wordsIn(error);
  const [, code, message] = OPERATION_FAILED.exec(error.message) ?? [];
  if (code !== undefined) return [{ code, message: message ?? "" }];
  const own = text(field(error, "code"));
  // Without a body that could be read, the message is the body: nothing that anybody should see.
  const isBody = error.message === field(response, "bodyAsText") || own === "PARSE_ERROR";
  return [{ code: own, message: isBody ? "the answer can't be read" : error.message }];
}

/** Of the pollers: no status, the code in the text. */
const OPERATION_FAILED = /^The long-running operation has failed\. (\w+)\. (.*)$/s;
const OPERATION_ENDED = /^The long-running operation has (failed|been canceled)|^Operation was canceled/;

function wordsIn(body: unknown): Words[] {
  const inner = field(body, "error");
  const top = typeof inner === "object" && inner !== null ? inner : body;
  const code = text(field(top, "code"));
  const message = text(field(top, "message")) ?? "";
  const own = code === undefined && message === "" ? [] : [{ code, message }];
  const details = field(top, "details");
  const nested = [...(Array.isArray(details) ? details : []), field(top, "innererror"), field(top, "innerError")];
  return [...own, ...nested.flatMap((one) => (typeof one === "object" && one !== null ? wordsIn(one) : []))];
}

function isFromAzure(error: unknown): boolean {
  if (error instanceof ArmTimeoutError || !(error instanceof Error)) return true;
  return error.name === "RestError" || OPERATION_ENDED.test(error.message);
}

function isOperationFailure({ code, message }: ArmFailure): boolean {
  return OPERATION_ENDED.test(message) || (code !== undefined && !/^E[A-Z_]+$|^[A-Z_]+_ERROR$/.test(code));
}

function isLoginFailure(error: unknown): error is Error {
  return error instanceof Error && /^(CredentialUnavailable|Authentication|AggregateAuthentication)/.test(error.name);
}

function loginFailed(error: Error, what: string): UpstreamError {
  const reason = redactText(error.message.split("\n")[0] ?? "").slice(0, LONGEST_TEXT);
  const remedy = "Run az login, or give this process a managed identity or AZURE_CLIENT_ID with its credentials.";
  return new UpstreamError("azure_login", `${what}: there is no identity to ask Azure with (${reason}). ${remedy}`, {
    service: "azure",
    retryable: true,
    cause: new Error(reason),
  });
}

/** The SDKs' errors hold requests with their headers. */
function causeOf(failure: ArmFailure): Error {
  return new Error(tell(failure));
}

function tell({ status, code, message }: ArmFailure): string {
  const where = [status, code].filter((part) => part !== undefined).join(" ");
  return [where, message].filter((part) => part !== "").join(": ");
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
}

function header(response: unknown, name: string): string | undefined {
  const headers = field(response, "headers");
  const get = field(headers, "get");
  return typeof get === "function" ? text(get.call(headers, name)) : undefined;
}

function parse(body: unknown): unknown {
  if (typeof body !== "string") return undefined;
  try {
    return JSON.parse(body);
  } catch {
    // Of a proxy, or cut off.
    return undefined;
  }
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function number(value: unknown): number | undefined {
  return typeof value === "number" && Number.isInteger(value) && value > 0 ? value : undefined;
}
