import type { Refusal } from "./oauth-provider.ts";

/** What a token or revocation endpoint says instead of yes. */
export type EndpointRefusal = Exclude<Refusal, { kind: "denied" }>;

/** As far as it counts: `body` is undefined when it is no JSON object. */
export type Reply = { status: number; retryAfter: string | null; body: Record<string, unknown> | undefined };

/** Statuses under which an error code is about what was asked, and no failure of the provider's. */
const JUDGING = [400, 401, 403];
/** RFC 6749, section 5.2, and Google's words for a client that was deleted, switched off, or asks from elsewhere. */
const CLIENT_CODES = [
  "invalid_client",
  "unauthorized_client",
  "deleted_client",
  "disabled_client",
  "redirect_uri_mismatch",
];
/** Further codes that are known well enough to be told. None says that a grant is over. */
const PASSING_CODES = [
  "internal_failure",
  "server_error",
  "temporarily_unavailable",
  "slow_down",
  "invalid_request",
  "invalid_scope",
  "unsupported_grant_type",
  "unsupported_token_type",
];

/**
 * What a refusal means, by its error code and status alone. Only a judging status with `invalid_grant` ends a grant: nobody is
 * disconnected over a word or an answer that isn't known (F73).
 */
export function classifyRefusal(reply: Reply, now: Date): EndpointRefusal {
  const code = JUDGING.includes(reply.status) ? errorOf(reply) : undefined;
  if (code === "invalid_grant") return { kind: "dead", code: wantsPerson(reply) ? "reauth_required" : code };
  if (code !== undefined && CLIENT_CODES.includes(code)) return { kind: "client", code };
  return unavailable(passingCode(reply), readRetryAfter(reply.retryAfter, now));
}

export function unavailable(code: string, retryAfterMs?: number): Extract<Refusal, { kind: "unavailable" }> {
  return { kind: "unavailable", code, retryAfterMs };
}

/** The authorization endpoint's, which a browser brings. RFC 6749, section 4.1.2.1. */
export function classifyAuthorizationError(error: string): Refusal {
  if (error === "access_denied" || error === "admin_policy_enforced" || error === "org_internal")
    return { kind: "denied", code: error };
  const isOurs = ["invalid_request", "unauthorized_client", "unsupported_response_type", "invalid_scope"];
  if (isOurs.includes(error)) return { kind: "client", code: error };
  return unavailable(PASSING_CODES.includes(error) ? error : "unknown_refusal");
}

/** The error code of a reply, as the provider sent it: to be compared, never told. */
export function errorOf({ body }: Pick<Reply, "body">): string | undefined {
  const error = body?.["error"];
  return typeof error === "string" ? error : undefined;
}

/** Google's session control, which no other field tells of everywhere. */
function wantsPerson({ body }: Reply): boolean {
  const words = [body?.["error_subtype"], body?.["error_description"]];
  return words.some((word) => typeof word === "string" && /\breauth\b|invalid_rapt|rapt_required/i.test(word));
}

function passingCode({ status, body }: Reply): string {
  const error = errorOf({ body });
  if (error !== undefined && PASSING_CODES.includes(error)) return error;
  if (status === 429) return "rate_limited";
  if (status >= 500) return "server_error";
  if (status >= 400) return "unknown_refusal";
  if (status >= 300) return "redirected";
  return "malformed_reply";
}

/** Seconds or a date; undefined for what is neither, or past. RFC 9110, section 10.2.3. */
function readRetryAfter(value: string | null, now: Date): number | undefined {
  const text = value?.trim() ?? "";
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - now.getTime();
  return ms > 0 ? ms : undefined;
}
