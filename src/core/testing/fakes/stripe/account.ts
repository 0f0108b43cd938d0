import { randomBytes } from "node:crypto";
import type { Clock } from "../../../platform/clock.ts";
import { type EventBody, stripeEvent } from "../stripe-events.ts";
import { invalid, Refusal } from "./refusal.ts";
import { type ApiShape, inShape } from "./shapes.ts";

/** An object of the API in the newest shape. */
export type Body = { id: string; object: string; created: number; [field: string]: unknown };

/** Which charge paid which invoice: newer shapes of both name neither. */
export type InvoicePayment = { invoice: string; charge: string; paymentIntent: string };

/** One Stripe account in test mode. */
export type Account = {
  clock: Clock;
  /** Everything there is, by id, in the order it was made. */
  objects: Map<string, Body>;
  payments: InvoicePayment[];
  /** Oldest first, in the shape that the account's endpoint has. */
  events: EventBody[];
  endpointShape: ApiShape;
  /** Ids of live mode, which a key of test mode is told about. */
  otherMode: Set<string>;
};

export function now({ clock }: Account): number {
  return Math.floor(clock.now().getTime() / 1_000);
}

/** Ids are like Stripe's, and never those of another account. */
export function newId(prefix: string): string {
  return `${prefix}_${randomBytes(15).toString("base64").replace(/[+/]/g, "x").slice(0, 18)}`;
}

export function add(account: Account, body: Body): Body {
  account.objects.set(body.id, body);
  return body;
}

/** Puts a changed object in the place of the one before. */
export function change(account: Account, body: Body, fields: Record<string, unknown>): Body {
  return add(account, { ...body, ...fields });
}

/**
 * The object with that id, a deleted one included.
 * @param param what named it; `id` is the path itself, for which Stripe answers 404 instead of 400.
 */
export function get(account: Account, object: string, id: string, param = "id"): Body {
  const found = account.objects.get(id);
  if (found !== undefined && found.object === object) return found;
  const elsewhere = account.otherMode.has(id)
    ? `; a similar object exists in live mode, but a test mode key was used to make this request.`
    : "";
  throw new Refusal(param === "id" ? 404 : 400, {
    type: "invalid_request_error",
    code: "resource_missing",
    message: `No such ${object}: '${id}'${elsewhere}`,
    param,
  });
}

/** An object that a parameter names: one that was deleted is none. */
export function getLive(account: Account, object: string, id: string, param: string): Body {
  const found = get(account, object, id, param);
  if (found["deleted"] !== true) return found;
  throw invalid(`No such ${object}: '${id}'`, param, "resource_missing");
}

/** All objects of a kind, newest first. */
export function listOf(account: Account, object: string): Body[] {
  return [...account.objects.values()].filter((body) => body.object === object && body["deleted"] !== true).reverse();
}

/** Has the account's endpoint told about what an object is like now. */
export function emit(account: Account, type: string, body: Body): EventBody {
  const { endpointShape: shape } = account;
  const object = structuredClone(inShape(account, body, shape));
  const event = stripeEvent(type, object, { id: newId("evt"), created: now(account), shape });
  account.events.push(event);
  add(account, event);
  return event;
}
