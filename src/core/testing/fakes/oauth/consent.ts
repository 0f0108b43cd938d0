import type { Person } from "./grants.ts";

/** What the address of the authorization endpoint asks for. */
export type ConsentAsk = {
  clientId: string;
  redirectUri: string;
  scopes: string[];
  state: string | null;
  nonce: string | null;
  challenge: string | null;
  /** Whether a refresh token is wanted, in Google's way of asking. */
  isOffline: boolean;
  isPrompted: boolean;
  responseType: string | null;
  challengeMethod: string | null;
};

export function readAsk(parameters: URLSearchParams): ConsentAsk {
  return {
    clientId: parameters.get("client_id") ?? "",
    redirectUri: parameters.get("redirect_uri") ?? "",
    scopes: (parameters.get("scope") ?? "").split(" ").filter((scope) => scope !== ""),
    state: parameters.get("state"),
    nonce: parameters.get("nonce"),
    challenge: parameters.get("code_challenge"),
    isOffline: parameters.get("access_type") === "offline",
    isPrompted: parameters.get("prompt")?.split(" ").includes("consent") === true,
    responseType: parameters.get("response_type"),
    challengeMethod: parameters.get("code_challenge_method"),
  };
}

/** The error that the client is told of, if what it asks can't be granted. RFC 6749, section 4.1.2.1. */
export function problemOf({ responseType, challenge, challengeMethod, scopes }: ConsentAsk): string | undefined {
  if (responseType !== "code") return "unsupported_response_type";
  if (challenge === null || challengeMethod !== "S256") return "invalid_request";
  return scopes.length === 0 ? "invalid_scope" : undefined;
}

/** A page on which a person says as whom, and to which scopes, they agree; its form leads back to the same address. */
export function consentPage(ask: ConsentAsk, clientName: string, people: readonly Person[], query: string): string {
  const accounts = people.map(({ subject, email }) => `<option value="${escape(subject)}">${escape(email)}</option>`);
  const scopes = ask.scopes.map(
    (scope) =>
      `<li><label><input type="checkbox" name="scope" value="${escape(scope)}" checked> ${escape(scope)}</label></li>`,
  );
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Loopback consent</title>
<h1>${escape(clientName)} wants access to your account</h1>
<form method="post" action="/authorize?${escape(query)}">
<p><label>Account <select name="subject">${accounts.join("")}</select></label></p>
<ul>${scopes.join("")}</ul>
<p><button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></p>
</form></html>`;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
