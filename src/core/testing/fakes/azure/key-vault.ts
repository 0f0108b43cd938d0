import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createRecording, readBody, sendJson, startLoopback } from "../loopback.ts";
import { LOOPBACK_CERTIFICATE, LOOPBACK_KEY } from "./certificate.ts";
import { bearerToken, type IdentityServer } from "./identity-server.ts";

export type VaultCall = { method: string; path: string; status: number };

export type KeyVaultServer = {
  url: string;
  /** Every request that was answered, in the order of the answers; its challenges included. */
  calls: VaultCall[];
  /** The values that are in force, by name. */
  values(): Record<string, string>;
  /** Names that are deleted and can be recovered. */
  deleted(): string[];
  /**
   * The next `times` requests whose method and path begin so get this answer; "reset" breaks the connection off. A 429 says to come
   * back after `retryAfter` seconds, 0 if not given; null: it doesn't say.
   */
  failNext(route: string, fault: Fault | "reset", times?: number): void;
  /** Role assignments are not in force yet: everything is refused until they are. */
  setPermitted(permitted: boolean): void;
  /** Requests wait for their answers from now on, until what it returns is called. */
  hold(): () => void;
  /** The most requests that were there at once. */
  mostAtOnce(): number;
  /** How many requests about a name a deletion or a recovery takes until it is done. */
  settleAfter(requests: number): void;
  close(): Promise<void>;
};

type Version = { value: string; version: string };
type Secret = {
  /** The newest last. */
  versions: readonly [Version, ...Version[]];
  state: "present" | "deleting" | "deleted" | "recovering";
  pending: number;
};
type Fault = { status: number; code: string; retryAfter?: number | null };
type Answer = { status: number; body?: unknown; headers?: Record<string, string> };

const AUDIENCE = "https://vault.azure.net";
const MAX_PAGE = 25;
const ATTRIBUTES = {
  enabled: true,
  created: 1_800_000_000,
  updated: 1_800_000_000,
  recoveryLevel: "Recoverable",
  recoverableDays: 90,
};

/**
 * One Key Vault with soft delete and purge protection: secrets and their versions, names that are compared without case, deletions
 * and recoveries that take a while, challenges, pages, and faults on demand. `authorize` decides what a principal may do to a secret;
 * the name is empty where all are listed. Without it everybody with a token may do all.
 */
export async function startKeyVault(
  identity: IdentityServer,
  { authorize }: { authorize?: (principalId: string, secretName: string, method: string) => boolean } = {},
): Promise<KeyVaultServer> {
  const secrets = new Map<string, Secret>();
  const faults: { route: string; fault: Fault | "reset" }[] = [];
  const crowd = createCrowd();
  const recording = createRecording<VaultCall>();
  let isPermitted = true;
  let settleRequests = 1;

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const leave = await crowd.enter();
    try {
      await answerTo(request, response);
    } finally {
      leave();
    }
  }

  async function answerTo(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? "/", "https://loopback");
    const path = pathname.replace(/\/$/, "");
    const method = request.method ?? "GET";
    const body = (await readBody(request)).toString();
    const at = faults.findIndex(({ route }) => `${method} ${path}`.startsWith(route));
    const [found] = bearerToken(request) === undefined || at === -1 ? [] : faults.splice(at, 1);
    if (found?.fault === "reset") return void request.socket.destroy();
    const {
      status,
      body: answer,
      headers,
    } = found === undefined ? reply(request, { method, path, searchParams, body }) : failed(found.fault);
    recording.add({ method, path, status });
    if (answer === undefined) response.writeHead(status, headers).end();
    else sendJson(response, status, answer, headers);
  }

  type Asked = { method: string; path: string; searchParams: URLSearchParams; body: string };

  function reply(request: IncomingMessage, { method, path, searchParams, body }: Asked): Answer {
    const holder = identity.holderOf(bearerToken(request) ?? "");
    if (holder?.audience !== AUDIENCE) {
      const challenge = `Bearer authorization="https://login.microsoftonline.com/loopback", resource="${AUDIENCE}"`;
      return {
        ...refuse(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token."),
        headers: { "www-authenticate": challenge },
      };
    }
    const [, collection, name = "", verb] = path.split("/");
    if (!isPermitted || authorize?.(holder.principalId, name.toLowerCase(), method) === false)
      return refuse(403, "Forbidden", "Caller is not authorized to perform action on resource.", "ForbiddenByRbac");
    if (!searchParams.has("api-version")) return refuse(400, "BadParameter", "api-version must be specified");
    if (collection === "secrets" && method === "GET" && name === "") return listPage(searchParams);
    if (!/^[0-9a-zA-Z-]{1,127}$/.test(name))
      return refuse(400, "BadParameter", `The request URI contains an invalid name: ${name}`);
    if (collection === "secrets") return ofSecret(method, name.toLowerCase(), { version: verb, body });
    if (collection === "deletedsecrets") return ofDeleted(method, name.toLowerCase(), verb);
    return refuse(404, "NotFound", "There is nothing here.");
  }

  function ofSecret(
    method: string,
    name: string,
    { version, body }: { version: string | undefined; body: string },
  ): Answer {
    const secret = progress(name);
    switch (method) {
      case "GET": {
        const found = secret?.state === "present" ? versionOf(secret, version) : undefined;
        return found === undefined ? missing(name) : { status: 200, body: bundle(name, found) };
      }
      case "PUT": {
        const conflict = secret && CONFLICTS[secret.state];
        if (conflict !== undefined)
          return refuse(409, "Conflict", `Secret ${name} ${conflict.message}`, conflict.inner);
        const { value } = JSON.parse(body) as { value: string };
        const written = { value, version: randomBytes(16).toString("hex") };
        // What was recovered has its older versions still.
        const versions: Secret["versions"] = secret === undefined ? [written] : [...secret.versions, written];
        secrets.set(name, { versions, state: "present", pending: 0 });
        return { status: 200, body: bundle(name, written) };
      }
      case "DELETE":
        if (secret?.state !== "present") return missing(name);
        secrets.set(name, { ...secret, state: "deleting", pending: settleRequests });
        return { status: 200, body: deletedBundle(name, secret) };
      default:
        return refuse(405, "MethodNotAllowed", method);
    }
  }

  function ofDeleted(method: string, name: string, verb: string | undefined): Answer {
    const secret = progress(name);
    if (secret?.state !== "deleted") return missing(name);
    if (method === "GET") return { status: 200, body: deletedBundle(name, secret) };
    if (method === "POST" && verb === "recover") {
      secrets.set(name, { ...secret, state: "recovering", pending: settleRequests });
      const { value: _value, ...rest } = bundle(name, newestOf(secret));
      return { status: 200, body: rest };
    }
    return refuse(403, "Forbidden", 'Operation "purge" is not enabled for this vault.', "ForbiddenByPolicy");
  }

  /** What is under way goes on with every request about it. */
  function progress(name: string): Secret | undefined {
    const secret = secrets.get(name);
    if (secret === undefined || secret.pending === 0) return secret;
    const pending = secret.pending - 1;
    const ended = secret.state === "deleting" ? ("deleted" as const) : ("present" as const);
    const next = { ...secret, pending, state: pending === 0 ? ended : secret.state };
    secrets.set(name, next);
    // This request still finds it as it was.
    return secret;
  }

  function listPage(searchParams: URLSearchParams): Answer {
    const names = [...secrets]
      .filter(([, { state }]) => state === "present")
      .map(([name]) => name)
      .toSorted();
    const size = Math.min(Number(searchParams.get("maxresults") ?? MAX_PAGE), MAX_PAGE);
    const start = Number(searchParams.get("$skiptoken") ?? 0);
    const value = names
      .slice(start, start + size)
      .map((name) => ({ id: `${server.url}/secrets/${name}`, attributes: ATTRIBUTES }));
    const next = `${server.url}/secrets?api-version=${searchParams.get("api-version")}&$skiptoken=${start + size}&maxresults=${size}`;
    return { status: 200, body: { value, nextLink: names.length > start + size ? next : null } };
  }

  function bundle(name: string, { value, version }: Version) {
    return { value, id: `${server.url}/secrets/${name}/${version}`, attributes: ATTRIBUTES };
  }

  function deletedBundle(name: string, secret: Secret) {
    const { value: _value, ...rest } = bundle(name, newestOf(secret));
    const dates = { deletedDate: 1_800_000_000, scheduledPurgeDate: 1_807_776_000 };
    return { ...rest, recoveryId: `${server.url}/deletedsecrets/${name}`, ...dates };
  }

  const server = await startLoopback(handle, { tls: { cert: LOOPBACK_CERTIFICATE, key: LOOPBACK_KEY } });
  return {
    url: server.url,
    calls: recording.entries,
    values: () =>
      Object.fromEntries(
        [...secrets].flatMap(([name, secret]) => (secret.state === "present" ? [[name, newestOf(secret).value]] : [])),
      ),
    deleted: () => [...secrets].flatMap(([name, { state }]) => (state === "present" ? [] : [name])),
    failNext(route, fault, times = 1) {
      for (let time = 0; time < times; time += 1) faults.push({ route, fault });
    },
    setPermitted(permitted) {
      isPermitted = permitted;
    },
    hold: crowd.hold,
    mostAtOnce: crowd.most,
    settleAfter(count) {
      settleRequests = count;
    },
    close: server.close,
  };
}

function newestOf({ versions }: Secret): Version {
  return versions.at(-1) ?? versions[0];
}

/** The newest where none is named. */
function versionOf(secret: Secret, version: string | undefined): Version | undefined {
  return version ? secret.versions.find((one) => one.version === version) : newestOf(secret);
}

const CONFLICTS: Partial<Record<Secret["state"], { message: string; inner?: string }>> = {
  deleting: { message: "is currently being deleted." },
  deleted: {
    message:
      "is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be recovered or purged.",
    inner: "ObjectIsDeletedButRecoverable",
  },
  recovering: {
    message: "is currently being recovered and cannot be re-created; retry later.",
    inner: "ObjectIsBeingRecovered",
  },
};

function missing(name: string): Answer {
  return refuse(404, "SecretNotFound", `A secret with (name/id) ${name} was not found in this key vault.`);
}

function failed({ status, code, retryAfter = 0 }: Fault): Answer {
  const headers = status === 429 && retryAfter !== null ? { headers: { "retry-after": String(retryAfter) } } : {};
  return { ...refuse(status, code, "Refused on demand."), ...headers };
}

function refuse(status: number, code: string, message: string, inner?: string): Answer {
  const error = { code, message, ...(inner === undefined ? {} : { innererror: { code: inner } }) };
  return { status, body: { error } };
}

/** How many are there at once, and a door that can be shut behind them. */
function createCrowd() {
  let [present, most] = [0, 0];
  let opened: Promise<void> = Promise.resolve();
  return {
    async enter(): Promise<() => void> {
      present += 1;
      most = Math.max(most, present);
      await opened;
      return () => {
        present -= 1;
      };
    },
    most: () => most,
    hold(): () => void {
      const door = Promise.withResolvers<void>();
      opened = door.promise;
      return door.resolve;
    },
  };
}
