import { z } from "zod";
import { type Account, add, type Body, change, emit, get, getLive, listOf, newId, now } from "./account.ts";
import { type Form, group, groups, text } from "./form.ts";
import { deleteCustomer, type Sales, setPrice, setStatus } from "./lives.ts";
import { newCustomer, newSession } from "./objects.ts";
import { invalid } from "./refusal.ts";

export type Books = { account: Account; sales: Sales };

/** A list is paged by whoever answers; anything else is answered as it is. */
export type Result = Body | Body[];

type Route = {
  method: "GET" | "POST" | "DELETE";
  path: RegExp;
  /** Names of parameters that Stripe knows here. */
  params: readonly string[];
  handle: (books: Books, form: Form, id: string) => Result;
};

const PAGING = ["limit", "starting_after"];

export const ROUTES: readonly Route[] = [
  {
    method: "POST",
    path: /^\/v1\/customers$/,
    params: ["email", "name", "metadata", "description", "preferred_locales"],
    handle: ({ account }, form) => createCustomer(account, form),
  },
  {
    method: "GET",
    path: /^\/v1\/customers$/,
    params: [...PAGING, "email"],
    handle: ({ account }, form) => matching(account, "customer", form, ["email"]),
  },
  {
    method: "GET",
    path: /^\/v1\/customers\/([^/]+)$/,
    params: [],
    handle: ({ account }, _form, id) => withoutRest(get(account, "customer", id)),
  },
  {
    method: "POST",
    path: /^\/v1\/customers\/([^/]+)$/,
    params: ["email", "name", "metadata", "description", "preferred_locales"],
    handle: ({ account }, form, id) => updateCustomer(account, form, id),
  },
  {
    method: "DELETE",
    path: /^\/v1\/customers\/([^/]+)$/,
    params: [],
    handle: ({ account }, _form, id) => withoutRest(deleteCustomer(account, id)),
  },
  {
    method: "POST",
    path: /^\/v1\/checkout\/sessions$/,
    params: [
      "mode",
      "customer",
      "client_reference_id",
      "line_items",
      "metadata",
      "subscription_data",
      "success_url",
      "cancel_url",
    ],
    handle: createSession,
  },
  {
    method: "POST",
    path: /^\/v1\/checkout\/sessions\/([^/]+)\/expire$/,
    params: [],
    handle: ({ account }, _form, id) => expireSession(account, id),
  },
  {
    method: "POST",
    path: /^\/v1\/billing_portal\/sessions$/,
    params: ["customer", "return_url", "locale"],
    handle: ({ account }, form) => createPortalSession(account, form),
  },
  {
    method: "GET",
    path: /^\/v1\/subscriptions$/,
    params: [...PAGING, "customer", "status", "price"],
    handle: ({ account }, form) => listSubscriptions(account, form),
  },
  {
    method: "POST",
    path: /^\/v1\/subscriptions\/([^/]+)$/,
    params: ["items", "metadata", "cancel_at_period_end"],
    handle: ({ account }, form, id) => updateSubscription(account, form, id),
  },
  {
    method: "DELETE",
    path: /^\/v1\/subscriptions\/([^/]+)$/,
    params: [],
    handle: ({ account }, _form, id) => setStatus(account, id, "canceled"),
  },
  ...readRoutes("prices", "price", ["active"]),
  ...readRoutes("subscriptions", "subscription"),
  ...readRoutes("checkout/sessions", "checkout.session", ["customer", "status", "subscription"]),
  ...readRoutes("invoices", "invoice", ["customer", "status"]),
  ...readRoutes("charges", "charge", ["customer", "payment_intent"]),
  ...readRoutes("events", "event", ["type"]),
  ...readRoutes("disputes", "dispute", ["charge", "payment_intent"]),
];

function readRoutes(path: string, object: string, filters: readonly string[] = []): Route[] {
  return [
    {
      method: "GET",
      path: new RegExp(`^/v1/${path}/([^/]+)$`),
      params: [],
      handle: ({ account }, _form, id) => get(account, object, id),
    },
    {
      method: "GET",
      path: new RegExp(`^/v1/${path}$`),
      params: [...PAGING, ...filters],
      handle: ({ account }, form) => matching(account, object, form, filters),
    },
  ];
}

function matching(account: Account, object: string, form: Form, filters: readonly string[]): Body[] {
  return listOf(account, object).filter((body) =>
    filters.every((name) => text(form, name) === undefined || body[name] === text(form, name)),
  );
}

/** Of a deleted customer, only that it is. */
function withoutRest(customer: Body): Body {
  if (customer["deleted"] !== true) return customer;
  return { id: customer.id, object: "customer", created: customer.created, deleted: true };
}

function metadataOf(form: Form, known: unknown = {}): Record<string, string> {
  const given = z.record(z.string(), z.string()).parse(group(form, "metadata"));
  const merged = { ...z.record(z.string(), z.string()).parse(known), ...given };
  // An empty value takes a key away.
  return Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== ""));
}

function createCustomer(account: Account, form: Form): Body {
  const [email = null, name = null] = [text(form, "email"), text(form, "name")];
  const customer = add(account, newCustomer(account, { email, name, metadata: metadataOf(form) }));
  emit(account, "customer.created", customer);
  return customer;
}

function updateCustomer(account: Account, form: Form, id: string): Body {
  const customer = getLive(account, "customer", id, "id");
  const { email = customer["email"], name = customer["name"] } = form;
  const changed = change(account, customer, { email, name, metadata: metadataOf(form, customer["metadata"]) });
  emit(account, "customer.updated", changed);
  return changed;
}

function required(form: Form, name: string): string {
  const value = text(form, name);
  if (value === undefined || value === "") throw invalid(`Missing required param: ${name}.`, name, "parameter_missing");
  return value;
}

function createSession({ account, sales }: Books, form: Form): Body {
  const mode = required(form, "mode");
  const customer = text(form, "customer");
  if (customer !== undefined) getLive(account, "customer", customer, "customer");
  const priceId = text(groups(form, "line_items")[0] ?? {}, "price");
  if (priceId === undefined) throw invalid("Missing required param: line_items.", "line_items", "parameter_missing");
  const price = get(account, "price", priceId, "line_items[0][price]");
  const metadata = metadataOf(group(form, "subscription_data"));
  const session = newSession(account, {
    mode,
    customer: customer ?? null,
    clientReferenceId: text(form, "client_reference_id") ?? null,
    metadata: metadataOf(form),
    price,
    successUrl: required(form, "success_url"),
    cancelUrl: text(form, "cancel_url") ?? null,
  });
  sales.set(session.id, { price, metadata });
  return add(account, session);
}

function expireSession(account: Account, id: string): Body {
  const session = get(account, "checkout.session", id);
  if (session["status"] !== "open") {
    throw invalid(
      `Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of ${String(session["status"])}.`,
    );
  }
  const expired = change(account, session, { status: "expired", url: null });
  emit(account, "checkout.session.expired", expired);
  return expired;
}

function createPortalSession(account: Account, form: Form): Body {
  const customer = getLive(account, "customer", required(form, "customer"), "customer");
  const id = newId("bps");
  return {
    id,
    object: "billing_portal.session",
    configuration: "bpc_1",
    created: now(account),
    customer: customer.id,
    flow: null,
    livemode: false,
    locale: null,
    on_behalf_of: null,
    return_url: text(form, "return_url") ?? null,
    url: `https://billing.stripe.com/p/session/${id}`,
  };
}

/** Canceled ones are left out unless they are asked for. */
function listSubscriptions(account: Account, form: Form): Body[] {
  const status = text(form, "status");
  return matching(account, "subscription", form, ["customer"]).filter((body) => {
    if (status === undefined) return body["status"] !== "canceled" && body["status"] !== "incomplete_expired";
    return status === "all" || body["status"] === status;
  });
}

function updateSubscription(account: Account, form: Form, id: string): Body {
  const before = get(account, "subscription", id);
  if (before["status"] === "canceled")
    throw invalid("A canceled subscription can only update its cancellation_details and metadata.");
  const priceId = text(groups(form, "items")[0] ?? {}, "price");
  const priced =
    priceId === undefined ? before : setPrice(account, before, get(account, "price", priceId, "items[0][price]"));
  const ending = text(form, "cancel_at_period_end");
  const changed = change(account, priced, {
    metadata: metadataOf(form, before["metadata"]),
    ...(ending === undefined ? {} : { cancel_at_period_end: ending === "true" }),
  });
  emit(account, "customer.subscription.updated", changed);
  return changed;
}
