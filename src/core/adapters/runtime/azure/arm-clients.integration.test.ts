import assert from "node:assert/strict";
import type { IncomingMessage, ServerResponse } from "node:http";
import test, { after, before, type TestContext } from "node:test";
import { DefaultAzureCredential } from "@azure/identity";
import type { Stamp } from "../../../platform/config.ts";
import { DeferredError, UpstreamError } from "../../../platform/errors.ts";
import type { StampId } from "../../../platform/ids.ts";
import { createLog } from "../../../platform/log.ts";
import { createTestDatabase } from "../../../testing/database.ts";
import { LOOPBACK_CERTIFICATE, LOOPBACK_KEY, trustLoopback } from "../../../testing/fakes/azure/certificate.ts";
import { bearerToken, type IdentityServer, startIdentityServer } from "../../../testing/fakes/azure/identity-server.ts";
import { sendJson, startLoopback } from "../../../testing/fakes/loopback.ts";
import type { Urgency } from "../runtime-driver.ts";
import { createArmBudget } from "./arm-budget.ts";
import { type ArmClients, createArmClients, credentialScope } from "./arm-clients.ts";
import { explainArmError, readArmFailure } from "./arm-errors.ts";
import { withArmScope } from "./arm-scope.ts";

const SUBSCRIPTION = "12345678-1234-1234-1234-123456789abc";
const SCOPE = `/subscriptions/${SUBSCRIPTION}/resourceGroups/openclaw`;
const ASSIGNMENT = "aaaaaaaa-1111-1111-1111-111111111111";

const stamp: Stamp = {
  id: "default" as StampId,
  subscriptionId: SUBSCRIPTION,
  resourceGroup: "openclaw",
  location: "westeurope",
  environmentId: `${SCOPE}/providers/Microsoft.App/managedEnvironments/fleet`,
  acrServer: undefined,
  vaultName: "vault",
  vaultUrl: "https://vault.vault.azure.net",
  storageAccount: "state",
  reachableFrom: "environment",
  coresQuota: undefined,
};

let identity: IdentityServer;
before(async () => {
  trustLoopback();
  identity = await startIdentityServer();
  Object.assign(process.env, identity.env);
});
after(() => identity.close());

type Call = { method: string; path: string; apiVersion: string | null; isLoggedIn: boolean };
type Handle = (request: IncomingMessage, response: ServerResponse, url: string) => void;
type Bench = {
  endpoint: string;
  clients: ArmClients;
  calls: Call[];
  taken: Urgency[];
  throttled: (number | undefined)[];
};

/** A resource manager that answers as `handle` says, and the clients in front of it. */
async function open(t: TestContext, handle: Handle, requestMs = 30_000): Promise<Bench> {
  const calls: Call[] = [];
  const server = await startLoopback(
    async (request, response) => {
      const { pathname, searchParams } = new URL(request.url ?? "/", "https://loopback");
      const holder = identity.holderOf(bearerToken(request) ?? "");
      calls.push({
        method: request.method ?? "",
        path: pathname,
        apiVersion: searchParams.get("api-version"),
        isLoggedIn: holder?.audience === "https://management.azure.com",
      });
      handle(request, response, server.url);
    },
    { tls: { cert: LOOPBACK_CERTIFICATE, key: LOOPBACK_KEY } },
  );
  t.after(() => server.close());
  const taken: Urgency[] = [];
  const throttled: (number | undefined)[] = [];
  const budget = {
    async take(urgency: Urgency, signal: AbortSignal | undefined) {
      signal?.throwIfAborted();
      taken.push(urgency);
    },
    async throttled(retryAfterMs: number | undefined) {
      throttled.push(retryAfterMs);
    },
    state: async () => undefined,
  };
  const credential = new DefaultAzureCredential();
  const clients = createArmClients({ stamp, endpoint: server.url, credential, budget, requestMs });
  return { endpoint: server.url, clients, calls, taken, throttled };
}

/** One reading call by each of the four clients. */
const READS: Record<keyof ArmClients, (clients: ArmClients) => Promise<unknown>> = {
  apps: async (clients) => (await clients.apps()).containerApps.get("openclaw", "app"),
  identities: async (clients) => (await clients.identities()).userAssignedIdentities.get("openclaw", "identity"),
  authorization: async (clients) => (await clients.authorization()).roleAssignments.get(SCOPE, ASSIGNMENT),
  storage: async (clients) => (await clients.storage()).fileShares.get("openclaw", "state", "share"),
};
const NAMES = Object.keys(READS) as (keyof ArmClients)[];

test("every client asks with a token of its own audience and the API version that is pinned", async (t) => {
  const { clients, calls, taken } = await open(t, (_request, response) =>
    sendJson(response, 200, { id: "x", name: "x", location: "westeurope", properties: {} }),
  );
  for (const name of NAMES) await withArmScope({ urgency: "sweep" }, () => READS[name](clients));
  assert.deepEqual(
    calls.map(({ apiVersion }) => apiVersion),
    ["2025-07-01", "2024-11-30", "2022-04-01", "2025-08-01"],
  );
  assert.ok(calls.every(({ isLoggedIn }) => isLoggedIn));
  assert.deepEqual(taken, ["sweep", "sweep", "sweep", "sweep"]);
});

test("each page and each poll is one call of the budget, and the scope hears of each", async (t) => {
  let polls = 0;
  const { clients, calls, taken } = await open(t, (request, response, url) => {
    const headers = { "x-ms-correlation-request-id": `call-${calls.length}` };
    const { pathname, searchParams } = new URL(request.url ?? "/", url);
    if (pathname.endsWith("/containerApps")) {
      const next = `${url}${pathname}?api-version=2025-07-01&skip=1`;
      const page = { value: [{ name: "a", location: "x" }], ...(searchParams.has("skip") ? {} : { nextLink: next }) };
      return sendJson(response, 200, page, headers);
    }
    if (pathname.endsWith("/status")) {
      polls += 1;
      return sendJson(response, 200, { status: polls < 2 ? "InProgress" : "Succeeded" }, headers);
    }
    if (request.method === "DELETE") {
      const location = `${url}${SCOPE}/status?api-version=2025-07-01`;
      response.writeHead(202, { ...headers, "azure-asyncoperation": location, "retry-after": "0" });
      return response.end();
    }
    return sendJson(response, 404, { error: { code: "ResourceNotFound", message: "gone" } }, headers);
  });
  const heard: string[] = [];
  const outside: string[] = [];
  await withArmScope({ urgency: "wake", onCall: (id) => outside.push(id) }, () =>
    withArmScope({ onCall: (id) => heard.push(id) }, async () => {
      const { containerApps } = await clients.apps();
      const names = [];
      for await (const app of containerApps.listByResourceGroup("openclaw")) names.push(app.name);
      assert.deepEqual(names, ["a", "a"]);
      await containerApps.delete("openclaw", "app", { updateIntervalInMs: 1 });
    }),
  );
  assert.equal(calls.length, 5);
  assert.deepEqual(taken, ["wake", "wake", "wake", "wake", "wake"]);
  assert.deepEqual(heard, ["call-1", "call-2", "call-3", "call-4", "call-5"]);
  assert.deepEqual(outside, heard);
});

test("throttling is reported to the budget once, and not tried again behind its back", async (t) => {
  const answers: [headers: Record<string, string>, body: unknown][] = [
    [{ "retry-after": "17" }, { error: { code: "TooManyRequests", message: "The request is being throttled." } }],
    [{ "x-ms-retry-after-ms": "2500" }, { error: { code: "TooManyRequests", message: "Slow." } }],
    [{}, { error: { code: "ResourceRequestsThrottled", message: "Please try again after '5' seconds." } }],
    [{}, { error: { code: "TooManyRequests", message: "The request is being throttled." } }],
  ];
  let nth = 0;
  const { clients, calls, throttled } = await open(t, (_request, response) => {
    const [headers = {}, body] = answers[nth++ % answers.length] ?? [];
    sendJson(response, 429, body, headers);
  });
  const afterMs = [];
  for (const name of NAMES) {
    const error = await failureOf(READS[name](clients));
    const explained = explainArmError(error, "The app could not be read");
    assert.ok(explained instanceof DeferredError, String(explained));
    afterMs.push(explained.afterMs);
  }
  assert.equal(calls.length, 4);
  assert.deepEqual(throttled, [17_000, 2_500, 5_000, undefined]);
  assert.deepEqual(afterMs, [17_000, 2_500, 5_000, 10_000]);
});

test("failures are read alike from all SDKs, with an envelope or without, also those of no JSON", async (t) => {
  const answers: [status: number, body: string, code: string | undefined][] = [
    [400, '{"error":{"code":"BadThing","message":"It is bad."}}', "BadThing"],
    [409, '{"code":"ContainerAppLockConflict","message":"Another is at it."}', "ContainerAppLockConflict"],
    [
      409,
      '{"code":"DeploymentFailed","details":[{"code":"AnotherOperationInProgress","message":"Busy."}]}',
      "AnotherOperationInProgress",
    ],
    [502, "<html>Bad gateway</html>", undefined],
    [504, "stream timeout", undefined],
    [503, "", undefined],
    [500, '"quoted"', undefined],
    [200, '{"id": "cut o', "PARSE_ERROR"],
  ];
  for (const name of NAMES) {
    let nth = 0;
    const { clients } = await open(t, (_request, response) => {
      const [status = 500, body] = answers[nth++] ?? [];
      response
        .writeHead(status, { "content-type": body?.startsWith("<") ? "text/html" : "application/json" })
        .end(body);
    });
    for (const [status, body, code] of answers) {
      const failure = readArmFailure(await failureOf(READS[name](clients)));
      assert.deepEqual([failure.status, failure.code], [status, code], `${name} ${status} ${body}`);
      assert.doesNotMatch(failure.message, /<html>|cut o/);
      assert.notEqual(failure.message, "");
    }
  }
});

test("an operation that was accepted and then failed says why", async (t) => {
  const { clients } = await open(t, (request, response, url) => {
    if (request.method === "DELETE") {
      response.writeHead(202, { "azure-asyncoperation": `${url}${SCOPE}/status?api-version=2025-07-01` }).end();
      return;
    }
    sendJson(response, 200, { status: "Failed", error: { code: "ContainerAppOperationError", message: "It broke." } });
  });
  const { containerApps } = await clients.apps();
  const error = await failureOf(Promise.resolve(containerApps.delete("openclaw", "app", { updateIntervalInMs: 1 })));
  assert.deepEqual(readArmFailure(error), {
    status: undefined,
    code: "ContainerAppOperationError",
    message: "It broke.",
    retryAfterMs: undefined,
  });
  const explained = explainArmError(error, "The app could not be removed");
  assert.ok(explained instanceof UpstreamError && explained.retryable);
  assert.match(explained.message, /It broke/);
});

test(
  "what is not answered in time, or cut off, is an outside failure that may pass",
  { timeout: 20_000 },
  async (t) => {
    const silent = await open(t, () => undefined, 100);
    const broken = await open(t, (request) => request.socket.destroy());
    for (const name of NAMES) {
      for (const [{ clients }, told] of [
        [silent, /no answer within 0.1 s/],
        [broken, /can't be reached/],
      ] as const) {
        const explained = explainArmError(await failureOf(READS[name](clients)), "The app could not be read");
        assert.ok(explained instanceof UpstreamError && explained.retryable, String(explained));
        assert.equal(explained.code, "azure_unreachable");
        assert.match(explained.message, told);
      }
    }
  },
);

test("the signal of the scope ends a request that is under way", { timeout: 20_000 }, async (t) => {
  const stop = new AbortController();
  const { clients } = await open(t, () => stop.abort(new Error("the daemon stops")));
  await assert.rejects(
    withArmScope({ signal: stop.signal }, () => READS.apps(clients)),
    /the daemon stops/,
  );
  await assert.rejects(
    withArmScope({ signal: stop.signal }, () => READS.apps(clients)),
    /the daemon stops/,
  );
});

test("a token that is no longer good is replaced, which is a call of its own", async (t) => {
  const { clients, calls, taken } = await open(t, (request, response) => {
    if (identity.holderOf(bearerToken(request) ?? "") !== undefined)
      return sendJson(response, 200, { id: "x", name: "x", location: "westeurope", properties: {} });
    return sendJson(response, 401, { error: { code: "ExpiredAuthenticationToken", message: "The token expired." } });
  });
  await READS.apps(clients);
  identity.revokeAll();
  const failure = readArmFailure(await failureOf(READS.apps(clients)));
  assert.deepEqual([failure.status, failure.code], [401, "ExpiredAuthenticationToken"]);
  assert.equal(calls.length, taken.length);
});

test("a budget that is spent ends a call before anything is sent", async (t) => {
  const { calls } = await open(t, (_request, response) => sendJson(response, 200, {}));
  const spent = new DeferredError("arm_budget_spent", "spent", { service: "azure", afterMs: 1_000 });
  const budget = { take: () => Promise.reject(spent), throttled: async () => undefined, state: async () => undefined };
  const endpoint = "https://127.0.0.1:1";
  const clients = createArmClients({ stamp, endpoint, credential: new DefaultAzureCredential(), budget });
  for (const name of NAMES) {
    const error = await failureOf(READS[name](clients));
    assert.equal(explainArmError(error, "The app could not be read"), spent);
  }
  assert.deepEqual(calls, []);
});

test("what Azure says of its patience holds for every client of the subscription (F49)", async (t) => {
  await using database = await createTestDatabase();
  const { calls, endpoint } = await open(t, (_request, response) =>
    sendJson(response, 429, { error: { code: "TooManyRequests", message: "Slow." } }, { "retry-after": "90" }),
  );
  const openDaemon = () => {
    const log = createLog("error", { write: () => true });
    const budget = createArmBudget({ pool: database.pool, subscriptionId: SUBSCRIPTION, callsPerMinute: 60, log });
    return createArmClients({ stamp, endpoint, credential: new DefaultAzureCredential(), budget });
  };
  const [one, other] = [openDaemon(), openDaemon()];
  assert.equal(readArmFailure(await failureOf(READS.storage(one))).status, 429);
  for (const name of NAMES) {
    const error = await failureOf(withArmScope({ urgency: "wake" }, () => READS[name](other)));
    assert.ok(error instanceof DeferredError && error.code === "arm_budget_spent", String(error));
    assert.ok(error.afterMs > 80_000 && error.afterMs <= 90_000);
  }
  assert.equal(calls.length, 1);
});

test("tokens are for the cloud that the endpoint belongs to", () => {
  const cases = {
    "https://management.azure.com": "https://management.azure.com/.default",
    "https://127.0.0.1:4443": "https://management.azure.com/.default",
    "https://management.chinacloudapi.cn": "https://management.chinacloudapi.cn/.default",
    "https://management.usgovcloudapi.net": "https://management.usgovcloudapi.net/.default",
    "https://westeurope.management.azure.com": "https://management.azure.com/.default",
  };
  for (const [endpoint, scope] of Object.entries(cases)) assert.equal(credentialScope(endpoint), scope);
});

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  return assert.fail("it succeeded");
}
