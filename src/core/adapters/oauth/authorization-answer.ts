import * as oauth from "oauth4webapi";
import type { ExchangeResult } from "./oauth-provider.ts";
import type { Dealings } from "./dealings.ts";
import { classifyAuthorizationError } from "./refusals.ts";

export type AuthorizationAsk = { redirectUri: string; state: string; codeVerifier: string; nonce: string };

type Answer = { kind: "code"; parameters: URLSearchParams } | Exclude<ExchangeResult, { kind: "granted" }>;

/** What a browser brought, once its `state` and, where it names one, its issuer (RFC 9207, against mix-up) are ours. */
export function readAnswer(
  { server, client }: Pick<Dealings, "server" | "client">,
  answer: URLSearchParams,
  state: string,
): Answer {
  try {
    const parameters = oauth.validateAuthResponse(server, client, answer, state);
    // Twice the same name is nobody's answer, and neither is an empty one.
    const [code = "", ...others] = parameters.getAll("code");
    return code !== "" && others.length === 0
      ? { kind: "code", parameters }
      : { kind: "foreign", code: "foreign_answer" };
  } catch (error) {
    if (error instanceof oauth.AuthorizationResponseError) return classifyAuthorizationError(error.error);
    if (error instanceof oauth.OperationProcessingError || error instanceof oauth.UnsupportedOperationError)
      return { kind: "foreign", code: "foreign_answer" };
    throw error;
  }
}
