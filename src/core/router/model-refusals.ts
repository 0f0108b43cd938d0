import type { FastifyReply, FastifyRequest } from "fastify";
import type { Refusal } from "../billing/billing.ts";
import { assertNever, UpstreamError, UsageError } from "../platform/errors.ts";
import { type BodyRefusal, MAX_BODY_BYTES } from "./body-memory.ts";
import { type ModelApi, modelError } from "./model-api.ts";

/** A refusal in the shape of the API called. */
export function refuse(
  reply: FastifyReply,
  api: ModelApi,
  status: number,
  code: string,
  message: string,
): FastifyReply {
  return reply.code(status).send(modelError(api.provider, status, code, message));
}

/** Trying again would not help: not before the budget, the plan or the subscription is another. */
export function refuseSpending(reply: FastifyReply, api: ModelApi, refusal: Refusal): FastifyReply {
  const { status, code } = refusalStatus(refusal.reason);
  return refuse(reply.header("x-should-retry", "false"), api, status, code, refusal.message);
}

function refusalStatus(reason: Refusal["reason"]): { status: number; code: string } {
  switch (reason) {
    case "barred":
      return { status: 403, code: "not_entitled" };
    case "model-not-offered":
      return { status: 404, code: "model_not_found" };
    case "stopped":
      return { status: 429, code: "stopped" };
    case "tenant-budget":
    case "fleet-budget":
      return { status: 429, code: "over_budget" };
    default:
      return assertNever(reason);
  }
}

export function refuseBody(reply: FastifyReply, api: ModelApi, refusal: BodyRefusal): FastifyReply {
  const closing = reply.header("connection", "close");
  switch (refusal) {
    case "too-large":
      return refuse(closing, api, 413, "too_large", `The request is larger than ${MAX_BODY_BYTES} bytes`);
    case "not-utf-8":
      return refuse(closing, api, 400, "invalid_request", "The body is not UTF-8");
    case "busy":
      return refuse(closing.header("retry-after", "1"), api, 503, "busy", "Too many large requests at once, try again");
    default:
      return assertNever(refusal);
  }
}

/** Whatever else goes wrong, in that shape. */
export function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply, api: ModelApi): FastifyReply {
  // Nobody is there any more to be told.
  if (reply.raw.destroyed) return reply;
  if (error instanceof UsageError) return refuse(reply, api, 400, error.code, error.message);
  if (error instanceof UpstreamError) {
    request.log.warn({ err: error }, "Model call failed");
    return refuse(reply, api, 502, error.code, error.message);
  }
  request.log.error({ err: error }, "Model gateway failed");
  return refuse(reply, api, 500, "internal_error", "Internal error");
}
