import type { IncomingMessage, ServerResponse } from "node:http";
import { request as httpRequest } from "undici";
import { type Clock, systemClock } from "../../platform/clock.ts";
import { createRecording, readBody, sendJson, startLoopback } from "./loopback.ts";
import { type Account, add, type Body, get } from "./stripe/account.ts";
import { answer } from "./stripe/answer.ts";
import { type Form, parseForm } from "./stripe/form.ts";
import { createIdempotency, type Reply } from "./stripe/idempotency.ts";
import {
  closeDispute,
  completeSession,
  openDispute,
  type Payment,
  refundCharge,
  renewSubscription,
  type Sales,
  setStatus,
  settleSession,
} from "./stripe/lives.ts";
import { newCustomer, newPrice, newSubscription } from "./stripe/objects.ts";
import { rateLimited, Refusal } from "./stripe/refusal.ts";
import { type ApiShape, shapeOf } from "./stripe/shapes.ts";
import { type EventBody, signStripeEvent } from "./stripe-events.ts";

export type StripeCall = {
  method: string;
  path: string;
  params: Form;
  idempotencyKey: string | undefined;
  version: string | undefined;
  status: number;
};

export type StripeServer = {
  /** To be used as `STRIPE_API_BASE`. */
  url: string;
  account: Account;
  /** Every request that was answered, in the order of the answers. */
  calls: StripeCall[];
  waitFor(accepts: (call: StripeCall) => boolean, timeoutMs?: number): Promise<StripeCall>;
  /** The next `times` requests to a method and path that begins so, such as `POST /v1/customers`, get this answer. */
  failNext(
    route: string,
    reply: { status: number; body: unknown; headers?: Record<string, string> },
    times?: number,
  ): void;
  /** The next `times` requests to it are too many. */
  limitNext(route: string, times: number): void;
  /** Requests to it begin and are not answered until `release` is called. */
  hold(route: string): { release(): void };
  addPrice(id: string, amountCents: number): void;
  addCustomer(fields?: { email?: string; metadata?: Record<string, string> }): Body;
  addSubscription(fields: {
    customer: string;
    price: string;
    status?: string;
    metadata?: Record<string, string>;
  }): Body;
  /** Completes a checkout as a person at Stripe's page does. */
  pay(sessionId: string, payment?: Payment): Body;
  settle(sessionId: string, end: "succeeded" | "failed"): void;
  renew(subscriptionId: string, end: "paid" | "retrying" | "given-up"): Body;
  setStatus(subscriptionId: string, status: string): Body;
  refund(chargeId: string, amountCents?: number): void;
  dispute(chargeId: string, status?: string): Body;
  closeDispute(disputeId: string, status: "won" | "lost"): void;
  object(kind: string, id: string): Body;
  events: EventBody[];
  /** Posts an event with its signature, as Stripe would; resolves with the status. */
  deliver(url: string, event: EventBody, secret: string): Promise<number>;
  close(): Promise<void>;
};

type Fault = { route: string; reply: Reply };
type Hold = { route: string; released: Promise<void> };

/**
 * One Stripe account in test mode, on loopback: what the control plane calls, in the shape of the API version that is asked
 * for, with faults on demand. `endpointShape` is that of its events.
 */
export async function startStripeServer(options: {
  secretKey: string;
  clock?: Clock;
  endpointShape?: ApiShape;
}): Promise<StripeServer> {
  const account: Account = {
    clock: options.clock ?? systemClock,
    objects: new Map(),
    payments: [],
    events: [],
    endpointShape: options.endpointShape ?? "basil",
    otherMode: new Set(),
  };
  const sales: Sales = new Map();
  const idempotency = createIdempotency();
  const recording = createRecording<StripeCall>();
  const faults: Fault[] = [];
  const holds = new Set<Hold>();

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname: path, search } = new URL(request.url ?? "/", "http://loopback");
    const method = request.method ?? "GET";
    const body = (await readBody(request)).toString();
    const params = parseForm(method === "POST" ? body : search);
    const version = header(request, "stripe-version");
    const key = method === "POST" ? header(request, "idempotency-key") : undefined;
    const call = { method, path, params, idempotencyKey: key, version };
    const reply = await replyTo(request, call);
    recording.add({ ...call, status: reply.status });
    sendJson(response, reply.status, reply.body, { "request-id": `req_${recording.entries.length}`, ...reply.headers });
  }

  async function replyTo(request: IncomingMessage, call: Omit<StripeCall, "status">): Promise<Reply> {
    const { method, path, params: form, version, idempotencyKey } = call;
    try {
      authorize(request, options.secretKey);
      return await idempotency.once(idempotencyKey, path, form, async () => {
        const route = `${method} ${path}`;
        const fault = faults.findIndex((one) => route.startsWith(one.route));
        const [found] = fault === -1 ? [] : faults.splice(fault, 1);
        if (found !== undefined) return found.reply;
        for (const hold of holds) if (route.startsWith(hold.route)) await hold.released;
        const body = answer({ account, sales }, { method, path, form, shape: shapeOf(version) });
        return { status: 200, body, headers: {} };
      });
    } catch (error) {
      if (error instanceof Refusal)
        return { status: error.status, body: { error: error.detail }, headers: error.headers };
      throw error;
    }
  }

  const server = await startLoopback(handle);
  return {
    url: server.url,
    account,
    calls: recording.entries,
    waitFor: recording.waitFor,
    failNext(route, { status, body, headers = {} }, times = 1) {
      for (let count = 0; count < times; count++) faults.push({ route, reply: { status, body, headers } });
    },
    limitNext(route, times) {
      const { status, detail, headers } = rateLimited();
      for (let count = 0; count < times; count++)
        faults.push({ route, reply: { status, body: { error: detail }, headers } });
    },
    hold(route) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const hold = { route, released: promise };
      holds.add(hold);
      return {
        release() {
          holds.delete(hold);
          resolve();
        },
      };
    },
    addPrice: (id, amountCents) => void add(account, newPrice(account, id, amountCents)),
    addCustomer: ({ email, metadata = {} } = {}) =>
      add(account, newCustomer(account, { email: email ?? null, name: null, metadata })),
    addSubscription: ({ customer, price, status = "active", metadata = {} }) =>
      add(account, newSubscription(account, { customer, price: get(account, "price", price), status, metadata })),
    pay: (sessionId, payment = "paid") => completeSession(account, sales, sessionId, payment),
    settle: (sessionId, end) => settleSession(account, sessionId, end),
    renew: (subscriptionId, end) => renewSubscription(account, subscriptionId, end),
    setStatus: (subscriptionId, status) => setStatus(account, subscriptionId, status),
    refund: (chargeId, amountCents) => refundCharge(account, chargeId, amountCents),
    dispute: (chargeId, status = "needs_response") => openDispute(account, chargeId, status),
    closeDispute: (disputeId, status) => closeDispute(account, disputeId, status),
    object: (kind, id) => get(account, kind, id),
    events: account.events,
    async deliver(url, event, secret) {
      const { rawBody, header: signature } = signStripeEvent(event, secret);
      const { statusCode, body } = await httpRequest(url, {
        method: "POST",
        headers: { "content-type": "application/json; charset=utf-8", "stripe-signature": signature },
        body: rawBody,
      });
      await body.dump();
      return statusCode;
    },
    close: server.close,
  };
}

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

function authorize(request: IncomingMessage, secretKey: string): void {
  const given = header(request, "authorization");
  if (given === `Bearer ${secretKey}`) return;
  const message =
    given === undefined
      ? "You did not provide an API key."
      : `Invalid API Key provided: ${given.slice("Bearer ".length, "Bearer ".length + 8)}****${given.slice(-4)}`;
  throw new Refusal(401, { type: "invalid_request_error", message });
}
