import { randomBytes, randomUUID } from "node:crypto";
import { nowText } from "./clock.ts";
import { Refusal } from "./refusal.ts";
import { subscriptionOf } from "./resource-id.ts";
import type { Route } from "./routing.ts";
import type { Answer, Call, Operation, World } from "./world.ts";

const APP_API_VERSION = "2025-07-01";
/** Real ones are about 3.3 kB long. */
const SIGNATURE_BYTES = 2_400;

/** Begins what takes a while; `finish` runs once, at the look that finds it done. */
export function beginOperation(
  world: World,
  call: Call,
  fields: Pick<Operation, "resourceId" | "location" | "kind" | "finish"> &
    Partial<Pick<Operation, "isDone" | "result" | "error">> & { pending: number },
): Operation {
  const operation: Operation = {
    id: randomUUID(),
    status: "InProgress",
    startTime: nowText(),
    isDone: () => true,
    result: () => undefined,
    ...fields,
    error: call.doom ?? fields.error,
  };
  world.operations.set(operation.id, operation);
  return operation;
}

/** A look at an operation, which goes on with every one of them; this look still finds it as it was. */
export function advance(operation: Operation): void {
  if (operation.status !== "InProgress") return;
  if (operation.pending > 0) operation.pending -= 1;
  else if (operation.isDone()) {
    operation.status = operation.error === undefined ? "Succeeded" : "Failed";
    operation.finish(operation.error === undefined);
  }
}

/** Both addresses at which an operation can be followed. */
export function followHeaders(world: World, operation: Operation): { asyncOperation: string; location: string } {
  const place = `${world.url}/subscriptions/${subscriptionOf(operation.resourceId)}/providers/Microsoft.App/locations/${operation.location}`;
  const signature = randomBytes(SIGNATURE_BYTES).toString("base64url");
  const query = `api-version=${APP_API_VERSION}&azureAsyncOperation=true&t=639100000000000000&c=${signature.slice(0, 2_600)}&s=${signature.slice(2_600)}&h=loopback`;
  return {
    asyncOperation: `${place}/${operation.kind}OperationStatuses/${operation.id}?${query}`,
    location: `${place}/${operation.kind}OperationResults/${operation.id}?${query}`,
  };
}

function find(world: World, { params }: Call): Operation {
  const operation = world.operations.get(params["operation"] ?? "");
  if (operation === undefined) throw new Refusal(404, "NotFound", `Operation ${params["operation"]} was not found.`);
  advance(operation);
  return operation;
}

function status(world: World, call: Call): Answer {
  const operation = find(world, call);
  const { status, startTime, id, error } = operation;
  const body = { id: call.path, name: id, status, startTime, ...(status === "Failed" ? { error } : {}) };
  return { status: 200, body, headers: status === "InProgress" ? { "retry-after": "0" } : {} };
}

function result(world: World, call: Call): Answer {
  const operation = find(world, call);
  switch (operation.status) {
    case "InProgress": {
      const { location } = followHeaders(world, operation);
      return { status: 202, headers: { location, "retry-after": "0" } };
    }
    case "Failed": {
      const { code = "Failed", message = "" } = operation.error ?? {};
      throw new Refusal(400, code, message);
    }
    case "Succeeded": {
      const body = operation.result();
      return body === undefined ? { status: 204 } : { status: 200, body };
    }
  }
}

const follow = (kind: Operation["kind"], what: "Statuses" | "Results", handle: Route["handle"]): Route => ({
  method: "GET",
  path: new RegExp(
    `^/subscriptions/(?<subscription>[^/]+)/providers/Microsoft\\.App/locations/[^/]+/${kind}Operation${what}/(?<operation>[^/]+)$`,
    "i",
  ),
  apiVersion: APP_API_VERSION,
  handle,
});

export const OPERATION_ROUTES: readonly Route[] = (["containerapp", "containerappsjob"] as const).flatMap((kind) => [
  follow(kind, "Statuses", status),
  follow(kind, "Results", result),
]);
