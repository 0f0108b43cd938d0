import { randomBytes, randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { createRecording, sendJson, startLoopback } from "../loopback.ts";

/** A token that was given out, and what it is for. */
export type IssuedToken = { audience: string; principalId: string };

export type IdentityServer = {
  /** What a process's environment says of its managed identity. */
  env: { IDENTITY_ENDPOINT: string; IDENTITY_HEADER: string };
  /** Who holds it; undefined for a token that was never given out, or is over. */
  holderOf(token: string): IssuedToken | undefined;
  /** Gives a token out to another principal, such as a runtime's. */
  issue(principalId: string, audience: string): string;
  /** Every token that was asked for. */
  requests: IssuedToken[];
  /** Tokens given out so far are no longer good. */
  revokeAll(): void;
  close(): Promise<void>;
};

const LIFE_SECONDS = 3_600;

/** The endpoint from which a container app gets tokens of its managed identity; tokens are opaque, and know their audience. */
export async function startIdentityServer(principalId: string = randomUUID()): Promise<IdentityServer> {
  const header = randomBytes(8).toString("hex");
  const tokens = new Map<string, IssuedToken>();
  const requests = createRecording<IssuedToken>();
  const issue = (holder: string, audience: string): string => {
    const token = randomBytes(16).toString("hex");
    tokens.set(token, { audience, principalId: holder });
    return token;
  };
  const server = await startLoopback(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://loopback");
    if (pathname !== "/msi/token" || request.headers["x-identity-header"] !== header)
      return sendJson(response, 403, { statusCode: 403, message: "Forbidden" });
    const audience = searchParams.get("resource") ?? "";
    requests.add({ audience, principalId });
    sendJson(response, 200, {
      access_token: issue(principalId, audience),
      expires_on: String(Math.floor(Date.now() / 1_000) + LIFE_SECONDS),
      resource: audience,
      token_type: "Bearer",
      client_id: principalId,
    });
  });
  return {
    env: { IDENTITY_ENDPOINT: `${server.url}/msi/token`, IDENTITY_HEADER: header },
    holderOf: (token) => tokens.get(token),
    issue,
    requests: requests.entries,
    revokeAll: () => tokens.clear(),
    close: server.close,
  };
}

/** The bearer token of a request; undefined when it brings none. */
export function bearerToken({ headers }: Pick<IncomingMessage, "headers">): string | undefined {
  return /^Bearer (.+)$/.exec(headers.authorization ?? "")?.[1];
}
