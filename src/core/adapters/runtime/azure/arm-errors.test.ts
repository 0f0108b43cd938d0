import assert from "node:assert/strict";
import test from "node:test";
import { DeferredError, UpstreamError } from "../../../platform/errors.ts";
import { ArmTimeoutError, explainArmError, readArmFailure, readRetryAfterMs } from "./arm-errors.ts";

const WHAT = "The container app t-1 could not be written";

/** As both SDKs throw it for an answer. */
function answered(status: number, body: unknown, headers: Record<string, string> = {}): Error {
  const bodyAsText = typeof body === "string" ? body : JSON.stringify(body);
  const response = { status, bodyAsText, headers: new Headers(headers) };
  return Object.assign(new Error(bodyAsText), { name: "RestError", statusCode: status, response });
}

const envelope = (code: string, message: string, more: object = {}) => ({ error: { code, message, ...more } });

type Deferral = { name: string; error: unknown; code: string; afterMs: number };

const deferrals: Deferral[] = [
  {
    name: "throttling that says for how long",
    error: answered(429, envelope("TooManyRequests", "The request is being throttled."), { "Retry-After": "44" }),
    code: "azure_throttled",
    afterMs: 44_000,
  },
  {
    name: "throttling that says nothing",
    error: answered(429, envelope("TooManyRequests", "The request is being throttled.")),
    code: "azure_throttled",
    afterMs: 10_000,
  },
  {
    name: "throttling that says it in words alone",
    error: answered(
      429,
      envelope("ResourceRequestsThrottled", "Over the limit of '50'. Please try again after '372' seconds."),
    ),
    code: "azure_throttled",
    afterMs: 372_000,
  },
  {
    name: "another operation, told in the details of a 429",
    error: answered(
      429,
      envelope("RetryableError", "A retryable error occurred.", {
        details: [{ code: "RetryableErrorDueToAnotherOperation", message: "The call can be retried in 14 seconds." }],
      }),
    ),
    code: "azure_throttled",
    afterMs: 14_000,
  },
  {
    name: "an operation in progress",
    error: answered(
      409,
      envelope(
        "ContainerAppOperationInProgress",
        "Cannot modify a container app 'a' because there is an active provisioning operation.",
      ),
    ),
    code: "azure_busy",
    afterMs: 5_000,
  },
  {
    name: "a lock conflict without an envelope",
    error: answered(409, { code: "ContainerAppLockConflict", message: "Another modification is in progress." }),
    code: "azure_busy",
    afterMs: 5_000,
  },
  {
    name: "a busy environment, wrapped",
    error: answered(409, {
      code: "DeploymentFailed",
      message: "At least one operation failed.",
      details: [{ code: "ManagedEnvironmentOperationInProgress", message: "Another operation is in progress." }],
    }),
    code: "azure_busy",
    afterMs: 5_000,
  },
  {
    name: "a conflict that only the words tell",
    error: answered(409, envelope("Conflict", "Another update is in progress on the environment.")),
    code: "azure_busy",
    afterMs: 5_000,
  },
  {
    name: "a share that is still being deleted",
    error: answered(409, envelope("ShareBeingDeleted", "The specified share is being deleted. Try operation later.")),
    code: "azure_busy",
    afterMs: 5_000,
  },
  {
    name: "an operation that was accepted, and then met another",
    error: new Error(
      "The long-running operation has failed. ContainerAppOperationInProgress. Another operation is in progress.",
    ),
    code: "azure_busy",
    afterMs: 5_000,
  },
  {
    name: "an identity that has not spread yet (F50)",
    error: answered(400, envelope("PrincipalNotFound", "Principal 1 does not exist in the directory 2.")),
    code: "azure_propagating",
    afterMs: 15_000,
  },
  {
    name: "a role that is not in force yet (F50)",
    error: answered(
      400,
      envelope(
        "InvalidParameterValueInContainerTemplate",
        "Field 'configuration.secrets' is invalid with details: 'Invalid value: \"token\": Unable to get value using Managed identity /subscriptions/1/x for secret token.'",
      ),
    ),
    code: "azure_propagating",
    afterMs: 15_000,
  },
  {
    name: "the same, from an operation that had been accepted (F50)",
    error: new Error(
      "The long-running operation has failed. InvalidParameterValueInContainerTemplate. Field 'configuration.secrets': Unable to get value using Managed identity x for secret y.",
    ),
    code: "azure_propagating",
    afterMs: 15_000,
  },
];

for (const { name, error, code, afterMs } of deferrals) {
  test(`${name} is put off`, () => {
    const explained = explainArmError(error, WHAT);
    assert.ok(explained instanceof DeferredError, String(explained));
    assert.deepEqual([explained.code, explained.afterMs, explained.service], [code, afterMs, "azure"]);
    assert.ok(explained.message.startsWith(`${WHAT}: `));
  });
}

type Failure = { name: string; error: unknown; code: string; retryable: boolean; says: RegExp };

const failures: Failure[] = [
  {
    name: "a name that Azure refuses",
    error: answered(400, envelope("ContainerAppInvalidName", "Invalid ContainerApp name 'X'.")),
    code: "azure_refused",
    retryable: false,
    says: /400 ContainerAppInvalidName: Invalid ContainerApp name 'X'/,
  },
  {
    name: "a template that is wrong in another way than by its secrets",
    error: answered(
      400,
      envelope("InvalidParameterValueInContainerTemplate", "Field 'template.containers.a.image' is invalid."),
    ),
    code: "azure_refused",
    retryable: false,
    says: /template\.containers\.a\.image/,
  },
  {
    name: "an identity that may not",
    error: answered(403, envelope("AuthorizationFailed", "The client does not have authorization.")),
    code: "azure_forbidden",
    retryable: false,
    says: /Give the identity of this control plane a role/,
  },
  {
    name: "a lock",
    error: answered(
      409,
      envelope(
        "ScopeLocked",
        "The scope '/subscriptions/1/x' cannot perform delete operation because following scope(s) are locked: '/subscriptions/1/resourceGroups/g'. Please remove the lock and try again.",
      ),
    ),
    code: "azure_locked",
    retryable: false,
    says: /Remove the lock on '\/subscriptions\/1\/resourceGroups\/g' \(az lock/,
  },
  {
    name: "a conflict that does not pass",
    error: answered(409, envelope("RoleAssignmentExists", "The role assignment already exists.")),
    code: "azure_refused",
    retryable: false,
    says: /RoleAssignmentExists/,
  },
  {
    name: "a failure inside of Azure",
    error: answered(500, envelope("ResourceDeploymentFailure", "Encountered internal server error.")),
    code: "azure_failed",
    retryable: true,
    says: /500 ResourceDeploymentFailure/,
  },
  {
    name: "a proxy's word",
    error: answered(504, "stream timeout"),
    code: "azure_failed",
    retryable: true,
    says: /504/,
  },
  {
    name: "a request that took too long",
    error: answered(408, ""),
    code: "azure_failed",
    retryable: true,
    says: /408/,
  },
  {
    name: "no answer in time",
    error: new ArmTimeoutError("no answer within 30 s"),
    code: "azure_unreachable",
    retryable: true,
    says: /ETIMEDOUT: no answer within 30 s/,
  },
  {
    name: "a broken connection",
    error: Object.assign(new Error("read ECONNRESET"), { name: "RestError", code: "ECONNRESET" }),
    code: "azure_unreachable",
    retryable: true,
    says: /ECONNRESET/,
  },
  {
    name: "an answer that was cut off",
    error: Object.assign(answered(200, '{"id": "se'), { code: "PARSE_ERROR", message: 'Error parsing {"id": "se' }),
    code: "azure_failed",
    retryable: true,
    says: /200 PARSE_ERROR: the answer can't be read/,
  },
  {
    name: "an operation that was accepted and then failed",
    error: new Error(
      "The long-running operation has failed. ContainerAppOperationError. Failed to provision revision.",
    ),
    code: "azure_failed",
    retryable: true,
    says: /began it and failed \(ContainerAppOperationError: Failed to provision revision\.\)/,
  },
  {
    name: "an operation that failed without a word",
    error: new Error("The long-running operation has failed"),
    code: "azure_failed",
    retryable: true,
    says: /began it and failed/,
  },
  {
    name: "an operation that somebody called off",
    error: new Error("The long-running operation has been canceled."),
    code: "azure_failed",
    retryable: true,
    says: /canceled/,
  },
  {
    name: "the body of an operation's status",
    error: { status: "Failed", error: { code: "InternalServerError", message: "It broke." } },
    code: "azure_failed",
    retryable: true,
    says: /InternalServerError: It broke/,
  },
  {
    name: "nobody to ask as",
    error: Object.assign(new Error("Please run 'az login'.\nMore."), { name: "CredentialUnavailableError" }),
    code: "azure_login",
    retryable: true,
    says: /there is no identity to ask Azure with/,
  },
];

for (const { name, error, code, retryable, says } of failures) {
  test(`${name} is a failure of Azure's`, () => {
    const explained = explainArmError(error, WHAT);
    assert.ok(explained instanceof UpstreamError && !(explained instanceof DeferredError), String(explained));
    assert.deepEqual([explained.code, explained.retryable, explained.service], [code, retryable, "azure"]);
    assert.match(explained.message, says);
    assert.ok(explained.message.startsWith(`${WHAT}: `));
  });
}

test("what was explained already, and what is not Azure's, stays what it is", () => {
  const spent = new DeferredError("arm_budget_spent", "spent", { service: "azure", afterMs: 1 });
  const vault = new UpstreamError("vault_failed", "no", { service: "key-vault", retryable: true });
  const bug = new TypeError("x is not a function");
  const database = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  for (const error of [spent, vault, bug, database]) assert.equal(explainArmError(error, WHAT), error);
});

test("neither a message nor a cause holds a token or a signed URL", () => {
  const signed = "https://management.azure.com/x/operations/1?api-version=2&t=1&c=MIIH&s=signature";
  const error = Object.assign(answered(400, envelope("Bad", `See ${signed}, sent with Bearer abc.def`)), {
    request: { headers: { authorization: "Bearer abc.def" } },
  });
  const explained = explainArmError(error, WHAT);
  const told = `${explained.message} ${String(explained.cause)} ${JSON.stringify(explained)}`;
  assert.doesNotMatch(told, /signature|MIIH|abc\.def/);
});

test("a status is read from wherever an error has it", () => {
  assert.deepEqual(readArmFailure(answered(404, envelope("ResourceNotFound", "Gone."))), {
    status: 404,
    code: "ResourceNotFound",
    message: "Gone.",
    retryAfterMs: undefined,
  });
  for (const odd of [undefined, null, "text", 7, {}, new Error("x")])
    assert.equal(readArmFailure(odd).status, undefined);
});

test("how long to wait is read from headers, the server's own clock, or the text", () => {
  const read = (headers: Record<string, string>, body?: string) => readRetryAfterMs((name) => headers[name], body);
  assert.equal(read({ "retry-after": "7" }), 7_000);
  assert.equal(read({ "retry-after": "0" }), 0);
  assert.equal(read({ "x-ms-retry-after-ms": "250", "retry-after": "1" }), 250);
  const date = "Wed, 25 Nov 2026 10:00:00 GMT";
  assert.equal(read({ date, "retry-after": "Wed, 25 Nov 2026 10:01:30 GMT" }), 90_000);
  assert.equal(read({ date, "retry-after": "Wed, 25 Nov 2026 09:00:00 GMT" }), undefined);
  assert.equal(read({}, "Please try again after '5' seconds."), 5_000);
  assert.equal(read({ "retry-after": "soon" }, "no idea"), undefined);
});
