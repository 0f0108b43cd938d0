import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Stamp } from "../../../platform/config.ts";
import { readBody, startLoopback } from "../loopback.ts";
import { type Snapshots, snapshotsOf } from "./arm/snapshots.ts";
import { requireAccess } from "./arm/access.ts";
import { mayRead } from "./arm/app-secrets.ts";
import { dispatch } from "./arm/dispatch.ts";
import { type ArmFault, createFaults, drop, type Faults } from "./arm/faults.ts";
import { createIngress } from "./arm/ingress.ts";
import { Refusal } from "./arm/refusal.ts";
import { keyOf } from "./arm/resource-id.ts";
import { reloadSecrets } from "./arm/secret-reload.ts";
import { seedPullIdentity, type Seeds, seedsOf } from "./arm/seed.ts";
import { createSandboxContainers } from "./arm/sandbox-containers.ts";
import { tamperWith, type Tampering } from "./arm/tampering.ts";
import { createThrottle } from "./arm/throttle.ts";
import { createVirtualContainers, type Delivery, type HealthRule } from "./arm/virtual-containers.ts";
import type { Answer, Call, Settle, World } from "./arm/world.ts";
import { LOOPBACK_CERTIFICATE, LOOPBACK_KEY } from "./certificate.ts";
import { bearerToken, type IdentityServer } from "./identity-server.ts";
import type { KeyVaultServer } from "./key-vault.ts";

export type { ArmFault } from "./arm/faults.ts";

export type ArmCall = {
  /** When it came, of `performance.now()`. */
  at: number;
  method: string;
  path: string;
  query: URLSearchParams;
  apiVersion: string | undefined;
  /** 0 when the connection broke instead. */
  status: number;
  /** What was sent, parsed; undefined: nothing. */
  body: unknown;
  correlationId: string;
  principalId: string | undefined;
  fault: ArmFault | undefined;
};

export type ArmServer = {
  /** To be used as `AZURE_RESOURCE_MANAGER_ENDPOINT`. */
  url: string;
  /** Every request, polls too, in the order of the answers. */
  calls: ArmCall[];
  /** Requests that the public description doesn't allow, and two containers at work on one state. Empty in a good test. */
  violations: string[];
  /** `route` is a method and the beginning of a path, such as `PUT /subscriptions/…/containerApps/x`, or says it of each call. */
  failNext: Faults["failNext"];
  /** The n-th call from now on, whatever it is. */
  failNth: Faults["failNth"];
  clearFaults(): void;
  /** From now on, more calls than these within a window are answered 429 with Retry-After. */
  limit(calls: number, windowMs: number): void;
  settle: Settle;
  state: Snapshots;
  /** Somebody else's hand in the portal; the template changed makes a new revision. */
  tamper(appName: string, change: (app: Tampering) => void): void;
  seed: Seeds;
  /** Its deletion, and that of all below it, is refused. */
  lock(resourceId: string): void;
  unlock(resourceId: string): void;
  /** Of virtual containers. */
  setHealth(rule: HealthRule): void;
  /** What Container Apps does every half hour: secrets without a version are read again, and revisions whose secrets changed started anew. */
  reloadSecrets(): void;
  /** Updates that virtual containers accepted. */
  deliveries: Delivery[];
  /** Ends an app's sandbox processes as the kernel does that has no memory left; the platform starts them again. */
  kill(appName: string): void;
  /** Whether a role assignment in force lets the principal read a secret; of any stamp's vault unless its URL is given. */
  mayRead(principalId: string, secretName: string, vaultUrl?: string): boolean;
  close(): Promise<void>;
};

const AUDIENCE = /^https:\/\/management\.(core\.windows\.net|azure\.com)\/?$/;
const DEFAULT_PAGE = 20;
const FAILURE = { code: "ContainerAppOperationError", message: "Failed to provision on demand." };

/**
 * Azure Resource Manager on loopback, with all that the control plane asks of it: long-running operations, eventual consistency, odd
 * casing, pages, validation of what is sent, faults on demand, and containers that are said to run. The stamps' environments, storage accounts, vaults
 * and resource groups are there; shares and what is deployed are not.
 */
export async function startArm(options: {
  identity: IdentityServer;
  stamps: readonly Stamp[];
  /** The principal of the control plane, which may do all. Others may do what a role assignment lets them. */
  owner: string;
  vaults?: readonly KeyVaultServer[];
  /** `sandbox`: containers are processes of the bundled sandbox runtime; by default they are only said to run. */
  containers?: "virtual" | "sandbox";
  pageSize?: number;
}): Promise<ArmServer> {
  const settle: Settle = {
    operationPolls: 0,
    deletePolls: 0,
    principalReplication: 0,
    rolePropagation: 0,
    zeroReplicaReads: 0,
    healthReads: 0,
  };
  const calls: ArmCall[] = [];
  const faults = createFaults();
  const throttle = createThrottle();
  const folder = mkdtempSync(path.join(tmpdir(), "openclaw-arm-"));
  const virtual = createVirtualContainers(settle);
  const sandbox = createSandboxContainers(path.join(folder, "containers"));
  const ingress = createIngress(() => world);
  const limits = { reads: 11_999, writes: 1_199, deletes: 14_999 };

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const at = performance.now();
    const call = await readCall(request);
    const fault = call.principalId === undefined ? undefined : faults.take({ ...call, principalId: call.principalId });
    const record = (status: number): void => {
      const { method, path, query, body, correlationId, principalId } = call;
      const apiVersion = query.get("api-version") ?? undefined;
      calls.push({ at, method, path, query, apiVersion, status, body, correlationId, principalId, fault });
    };
    if (fault === "hang") return record(0);
    if (fault === "reset") {
      record(0);
      return drop(request);
    }
    const doom = fault === "operation-failed" ? FAILURE : undefined;
    const answer = typeof fault === "object" ? faulty(fault) : await reply({ ...call, params: {}, doom });
    record(fault === "lost" || fault === "mute" ? 0 : answer.status);
    if (fault === "mute") return;
    if (fault === "lost") return drop(request);
    send(request, response, answer, call.correlationId);
  }

  async function readCall(request: IncomingMessage) {
    // A scope that begins with a slash comes with two of them.
    const url = new URL((request.url ?? "/").replace(/^\/{2,}/, "/"), "https://loopback");
    const text = (await readBody(request)).toString("utf8");
    const holder = options.identity.holderOf(bearerToken(request) ?? "");
    return {
      method: request.method ?? "GET",
      path: decodeURIComponent(url.pathname).replaceAll(/\/{2,}/g, "/"),
      query: url.searchParams,
      headers: request.headers,
      body: text === "" ? undefined : (JSON.parse(text) as unknown),
      principalId: holder !== undefined && AUDIENCE.test(holder.audience) ? holder.principalId : undefined,
      correlationId: request.headers["x-ms-correlation-request-id"]?.toString() ?? randomUUID(),
    };
  }

  async function reply({ principalId, ...call }: Call & { principalId: string | undefined }): Promise<Answer> {
    try {
      if (principalId === undefined) throw new Refusal(401, "AuthenticationFailed", "Authentication failed.");
      requireAccess(world, call, principalId);
      throttle.count();
      return await dispatch(world, call);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const { status, code, message, headers } = error;
      return { status, body: { error: { code, message } }, headers };
    }
  }

  function send(request: IncomingMessage, response: ServerResponse, answer: Answer, correlationId: string): void {
    const kind = request.method === "DELETE" ? "deletes" : request.method === "GET" ? "reads" : "writes";
    limits[kind] -= 1;
    response.writeHead(answer.status, {
      "x-ms-correlation-request-id": correlationId,
      "x-ms-request-id": randomUUID(),
      [`x-ms-ratelimit-remaining-subscription-${kind}`]: String(limits[kind]),
      ...(answer.body === undefined ? {} : { "content-type": "application/json; charset=utf-8" }),
      ...answer.headers,
    });
    response.end(answer.body === undefined ? undefined : JSON.stringify(answer.body));
  }

  const server = await startLoopback(handle, { tls: { cert: LOOPBACK_CERTIFICATE, key: LOOPBACK_KEY } });
  const world: World = {
    url: server.url,
    stamps: options.stamps,
    owner: options.owner,
    vaults: options.vaults ?? [],
    pageSize: options.pageSize ?? DEFAULT_PAGE,
    settle,
    violations: [],
    identities: new Map(),
    roleAssignments: new Map(),
    apps: new Map(),
    jobs: new Map(),
    storages: new Map(),
    shares: new Map(),
    operations: new Map(),
    images: undefined,
    locks: new Set(),
    containers: options.containers === "sandbox" ? sandbox : virtual,
    openIngress: ingress.openIngress,
    closeIngress: ingress.closeIngress,
    folder: path.join(folder, "shares"),
  };
  mkdirSync(world.folder, { mode: 0o700 });
  for (const stamp of options.stamps) seedPullIdentity(world, stamp);
  const [firstStamp] = options.stamps;
  if (firstStamp === undefined) throw new Error("A loopback Azure needs a stamp");

  return {
    url: server.url,
    calls,
    violations: world.violations,
    failNext: faults.failNext,
    failNth: faults.failNth,
    clearFaults: faults.clear,
    limit: throttle.limit,
    settle,
    state: snapshotsOf(world),
    tamper: (appName, change) => tamperWith(world, appName, change),
    seed: seedsOf(world, firstStamp),
    lock: (resourceId) => void world.locks.add(keyOf(resourceId)),
    unlock: (resourceId) => void world.locks.delete(keyOf(resourceId)),
    setHealth: virtual.setHealth,
    reloadSecrets: () => reloadSecrets(world),
    deliveries: virtual.deliveries,
    kill: sandbox.kill,
    mayRead: (principalId, secretName, vaultUrl) => mayRead(world, principalId, secretName, vaultUrl),
    async close() {
      await server.close();
      await ingress.close();
      for (const job of world.jobs.values()) for (const execution of job.executions.values()) execution.stop();
      await world.containers.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function faulty({
  status,
  code,
  message = "Refused on demand.",
  retryAfter,
  envelope,
}: Exclude<ArmFault, string>): Answer {
  const detail = { code, message };
  return {
    status,
    body: envelope === false ? detail : { error: detail },
    headers: retryAfter === undefined ? {} : { "retry-after": String(retryAfter) },
  };
}
