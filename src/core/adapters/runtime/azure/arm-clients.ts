import type { ContainerAppsAPIClient, ContainerAppsAPIClientOptionalParams } from "@azure/arm-appcontainers";
import type { AuthorizationManagementClient } from "@azure/arm-authorization";
import type { ManagedServiceIdentityClient } from "@azure/arm-msi";
import type { StorageManagementClient } from "@azure/arm-storage";
import type { TokenCredential } from "@azure/identity";
import type { Stamp } from "../../../platform/config.ts";
import type { ArmBudget } from "./arm-budget.ts";
import { ArmTimeoutError, readRetryAfterMs } from "./arm-errors.ts";
import { armScope } from "./arm-scope.ts";

/** Of the public API descriptions that what we send is valid against. */
export const CONTAINER_APPS_API = "2025-07-01";
export const IDENTITIES_API = "2024-11-30";
/** The SDK has it for role assignments, and no other. */
export const AUTHORIZATION_API = "2022-04-01";
export const STORAGE_API = "2025-08-01";

/** For one request; what takes longer on Azure is polled. */
const REQUEST_MS = 30_000;
const LONGEST_TEXT = 200;

/** The SDKs' clients for one stamp, each loaded when it is first asked for. */
export type ArmClients = {
  apps(): Promise<ContainerAppsAPIClient>;
  identities(): Promise<ManagedServiceIdentityClient>;
  authorization(): Promise<AuthorizationManagementClient>;
  storage(): Promise<StorageManagementClient>;
};

/**
 * Every request of these clients, polls and pages included, is one call of the budget, in the scope of whoever makes it; nothing is
 * tried again behind their back. What they throw is for `explainArmError`.
 */
export function createArmClients(options: {
  stamp: Stamp;
  /** Of the resource manager, without a trailing slash. */
  endpoint: string;
  credential: TokenCredential;
  budget: ArmBudget;
  requestMs?: number;
}): ArmClients {
  const { stamp, endpoint, credential, budget, requestMs = REQUEST_MS } = options;
  const { subscriptionId } = stamp;
  const scope = credentialScope(endpoint);
  const shared = {
    endpoint,
    retryOptions: { maxRetries: 0 },
    additionalPolicies: [{ policy: budgetPolicy(budget, requestMs), position: "perRetry" as const }],
  };
  /** The SDKs of the newer kind. */
  const recent = { ...shared, credentials: { scopes: [scope] } };
  const earlier = { ...shared, credentialScopes: scope };
  return {
    apps: once(async () => {
      const { ContainerAppsAPIClient: Client } = await import("@azure/arm-appcontainers");
      return new Client(credential, subscriptionId, { ...recent, apiVersion: CONTAINER_APPS_API });
    }),
    identities: once(async () => {
      const { ManagedServiceIdentityClient: Client } = await import("@azure/arm-msi");
      return new Client(credential, subscriptionId, { ...earlier, apiVersion: IDENTITIES_API });
    }),
    authorization: once(async () => {
      const { AuthorizationManagementClient: Client } = await import("@azure/arm-authorization");
      return new Client(credential, subscriptionId, earlier);
    }),
    storage: once(async () => {
      const { StorageManagementClient: Client } = await import("@azure/arm-storage");
      return new Client(credential, subscriptionId, { ...recent, apiVersion: STORAGE_API });
    }),
  };
}

/** Whose tokens the resource manager at `endpoint` takes: that of a sovereign cloud its own, any other those of the public one. */
export function credentialScope(endpoint: string): string {
  const { hostname } = new URL(endpoint);
  const isSovereign = /(^|\.)management\.(chinacloudapi\.cn|usgovcloudapi\.net)$/.exec(hostname);
  const audience = isSovereign === null ? "management.azure.com" : `management.${isSovereign[2]}`;
  return `https://${audience}/.default`;
}

function once<Client>(open: () => Promise<Client>): () => Promise<Client> {
  let opened: Promise<Client> | undefined;
  return () => (opened ??= open());
}

type Policy = NonNullable<ContainerAppsAPIClientOptionalParams["additionalPolicies"]>[number]["policy"];
type Request = Parameters<Policy["sendRequest"]>[0];
type Response = Awaited<ReturnType<Policy["sendRequest"]>>;

/** Innermost of all: what redirects and fresh tokens send again goes through it again. */
function budgetPolicy(budget: ArmBudget, requestMs: number): Policy {
  return {
    name: "armBudgetPolicy",
    async sendRequest(request, next) {
      const { urgency, signal, onCall } = armScope();
      await budget.take(urgency, signal);
      const response = await withinTime(request, { requestMs, signal }, next);
      const correlationId = response.headers.get("x-ms-correlation-request-id");
      if (correlationId !== undefined) onCall?.(correlationId);
      if (response.status === 429) {
        const header = (name: string) => response.headers.get(name);
        await budget.throttled(readRetryAfterMs(header, response.bodyAsText ?? undefined));
      }
      return withEnvelope(response);
    },
  };
}

/** The SDK's own time limit would keep the process alive until it is over, and looks like the caller's giving up. */
async function withinTime(
  request: Request,
  { requestMs, signal }: { requestMs: number; signal: AbortSignal | undefined },
  next: (request: Request) => Promise<Response>,
): Promise<Response> {
  const late = AbortSignal.timeout(requestMs);
  const given = request.abortSignal;
  const callers = given instanceof AbortSignal ? [given] : [];
  request.abortSignal = AbortSignal.any([late, ...callers, ...(signal === undefined ? [] : [signal])]);
  try {
    return await next(request);
  } catch (error) {
    signal?.throwIfAborted();
    if (!late.aborted || given?.aborted === true) throw error;
    throw new ArmTimeoutError(`no answer within ${requestMs / 1_000} s`, { cause: error });
  } finally {
    // The same request may be sent again, with time of its own.
    if (given === undefined) delete request.abortSignal;
    else request.abortSignal = given;
  }
}

/**
 * Some refusals lack the envelope around what went wrong, or are a proxy's: the SDKs drop what they don't find in one, and some of
 * them break on an answer that is empty.
 */
function withEnvelope(response: Response): Response {
  if (response.status < 400) return response;
  const body = parseObject(response.bodyAsText ?? "");
  if (body !== undefined && "error" in body) return response;
  const error = body ?? { message: describeText(response.bodyAsText ?? "") };
  response.headers.set("content-type", "application/json");
  return { ...response, bodyAsText: JSON.stringify({ error }) };
}

function parseObject(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    // No JSON is what is looked for here.
    return undefined;
  }
}

/** Such as Envoy's `stream timeout`; nobody reads a page of HTML in a message. */
function describeText(text: string): string {
  if (text.trim() === "") return "without a word";
  return text.trimStart().startsWith("<") ? "with a page instead of an answer" : text.slice(0, LONGEST_TEXT);
}
