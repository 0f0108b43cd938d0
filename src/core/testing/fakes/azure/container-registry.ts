import { createHash, randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { readBody, sendJson, startLoopback } from "../loopback.ts";
import { LOOPBACK_CERTIFICATE, LOOPBACK_KEY } from "./certificate.ts";
import { bearerToken, type IdentityServer } from "./identity-server.ts";

export type RegistryCall = { method: string; path: string; status: number };

export type ContainerRegistry = {
  /** Host and port, as in the name of an image. */
  server: string;
  calls: RegistryCall[];
  /** @returns the digest of the image that is there from now on. */
  push(repository: string, tag: string): string;
  /** Whether those who log in may pull. */
  permit(allowed: boolean): void;
  close(): Promise<void>;
};

const AUDIENCE = /^https:\/\/(management|containerregistry)\.azure\.(com|net)\/?$/;

/**
 * An Azure container registry as far as the distribution protocol's manifests go: a token of Entra is exchanged for one of the
 * registry's, and that for one that opens one repository. There is no anonymous pull.
 */
export async function startContainerRegistry(identity: IdentityServer): Promise<ContainerRegistry> {
  const digests = new Map<string, string>();
  const refreshTokens = new Set<string>();
  const scopes = new Map<string, string>();
  const calls: RegistryCall[] = [];
  let isPermitted = true;

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname: path } = new URL(request.url ?? "/", server.url);
    const method = request.method ?? "GET";
    const form = new URLSearchParams((await readBody(request)).toString("utf8"));
    const { status, body, headers } = reply(request, `${method} ${path}`, form);
    calls.push({ method, path, status });
    sendJson(response, status, body, headers);
  }

  type Answer = { status: number; body: unknown; headers?: Record<string, string> };

  function reply(request: IncomingMessage, route: string, form: URLSearchParams): Answer {
    const [, repository, reference] = /^(?:GET|HEAD) \/v2\/(.+)\/manifests\/([^/]+)$/.exec(route) ?? [];
    if (repository !== undefined && reference !== undefined) return manifest(request, repository, reference);
    if (route === "POST /oauth2/exchange") return exchange(form);
    if (route === "POST /oauth2/token") return grant(form);
    if (route === "GET /oauth2/token") return refuse(401, "UNAUTHORIZED", "authentication required");
    return refuse(404, "NOT_FOUND", "there is nothing here");
  }

  function manifest(request: IncomingMessage, repository: string, reference: string): Answer {
    const scope = `repository:${repository}:pull`;
    if (scopes.get(bearerToken(request) ?? "") !== scope) {
      const challenge = `Bearer realm="${server.url}/oauth2/token",service="${host}",scope="${scope}"`;
      return {
        ...refuse(401, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization"),
        headers: { "www-authenticate": challenge },
      };
    }
    const known = [...digests].filter(([name]) => name.startsWith(`${repository}:`)).map(([, digest]) => digest);
    const digest = known.includes(reference) ? reference : digests.get(`${repository}:${reference}`);
    if (digest === undefined) return refuse(404, "MANIFEST_UNKNOWN", "manifest tagged by that name is not found");
    return { status: 200, body: { schemaVersion: 2 }, headers: { "docker-content-digest": digest } };
  }

  /** A token of Entra for one of the registry's. */
  function exchange(form: URLSearchParams): Answer {
    const holder = identity.holderOf(form.get("access_token") ?? "");
    const isKnown = holder !== undefined && AUDIENCE.test(holder.audience);
    if (!isKnown || form.get("grant_type") !== "access_token" || form.get("service") !== host)
      return refuse(401, "UNAUTHORIZED", "authentication required");
    const token = randomBytes(16).toString("hex");
    refreshTokens.add(token);
    return { status: 200, body: { refresh_token: token } };
  }

  /** One of the registry's for one that opens what `scope` says. */
  function grant(form: URLSearchParams): Answer {
    const isKnown = refreshTokens.has(form.get("refresh_token") ?? "") && form.get("grant_type") === "refresh_token";
    if (!isKnown || form.get("service") !== host) return refuse(401, "UNAUTHORIZED", "authentication required");
    const token = randomBytes(16).toString("hex");
    // Whoever may not pull gets a token all the same, which opens nothing.
    scopes.set(token, isPermitted ? (form.get("scope") ?? "") : "");
    return { status: 200, body: { access_token: token } };
  }

  const server = await startLoopback(handle, { tls: { cert: LOOPBACK_CERTIFICATE, key: LOOPBACK_KEY } });
  const { host } = new URL(server.url);
  return {
    server: host,
    calls,
    push(repository, tag) {
      const digest = `sha256:${createHash("sha256").update(`${repository}:${tag}`).digest("hex")}`;
      digests.set(`${repository}:${tag}`, digest);
      return digest;
    },
    permit(allowed) {
      isPermitted = allowed;
    },
    close: server.close,
  };
}

function refuse(status: number, code: string, message: string) {
  return { status, body: { errors: [{ code, message }] } };
}
