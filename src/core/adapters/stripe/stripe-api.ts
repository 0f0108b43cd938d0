import { createHash } from "node:crypto";
import Stripe from "stripe";
import { UpstreamError } from "../../platform/errors.ts";

/** What can be read again from Stripe, named as Stripe names its objects. */
export type StripeObjectKind = "subscription" | "invoice" | "charge" | "customer" | "dispute" | "checkout.session";

export type StripeApi = {
  /**
   * The object as webhooks carry it in `data.object`; undefined when Stripe has none with that id, or it is deleted.
   * @throws UpstreamError when Stripe refuses or can't be reached, or `signal` aborts.
   */
  retrieve(kind: StripeObjectKind, id: string, signal?: AbortSignal): Promise<Record<string, unknown> | undefined>;
  /** Those with this e-mail, the newest first, a hundred at most. */
  findCustomers(email: string): Promise<StripeCustomer[]>;
  /** The same `key`, of any length, gives the same customer for a day at least. */
  createCustomer(customer: NewCustomer, key: string): Promise<StripeCustomer>;
  /** A customer's subscriptions in every state, the newest first, a hundred at most. */
  listSubscriptionsOf(customerId: string): Promise<{ id: string; status: string }[]>;
  /** Undefined when this key's account and mode have none with that id. */
  findPrice(id: string): Promise<StripePrice | undefined>;
  /** Of all customers and in every state, each with its latest invoice; the newest first, a hundred at a time. */
  listSubscriptions(after: string | undefined): Promise<SubscriptionPage>;
  /** A customer's checkouts, the newest first. */
  listCheckouts(customerId: string): Promise<StripeCheckout[]>;
  createCheckout(checkout: NewCheckout & { offer: string }, key: string): Promise<StripeCheckout>;
  /** Ends an open checkout, so that nobody pays by it any more. */
  expireCheckout(id: string): Promise<void>;
  /** @returns where the customer looks after subscription and cards, for a few minutes. */
  createPortal(customerId: string, returnUrl: string): Promise<{ url: string }>;
};

/** What reading again needs. */
export type StripeReader = Pick<StripeApi, "retrieve">;

export type StripePrice = { isActive: boolean; isRecurring: boolean };
export type StripeCustomer = { id: string; tenantId: string | undefined };
export type NewCustomer = { tenantId: string; email: string; name: string };

/** `last` is what the next page comes after; undefined when this one is the last. */
export type SubscriptionPage = { subscriptions: Record<string, unknown>[]; last: string | undefined };

/** `url` is null once it is no longer open. */
export type StripeCheckout = {
  id: string;
  url: string | null;
  isOpen: boolean;
  /** What it was made with. */
  offer: string | undefined;
  expiresAt: Date;
};

export type NewCheckout = {
  tenantId: string;
  customerId: string;
  priceId: string;
  successUrl: string;
  cancelUrl: string;
  /** The subscription costs nothing until then. */
  trialEndsAt: Date | undefined;
};

const PAGE = 100;
const TIMEOUT_MS = 20_000;
/** By the SDK, with growing pauses, for what may succeed at once; a refusal for now is its caller's to wait out. */
const RETRIES = 2;

/** Stripe's API at `apiBase`, as the SDK calls it: with the API version that it was made for. */
export function createStripeApi({
  secretKey,
  apiBase,
  timeoutMs = TIMEOUT_MS,
  retries = RETRIES,
}: {
  secretKey: string;
  apiBase: string | undefined;
  timeoutMs?: number;
  retries?: number;
}): StripeApi {
  const stripe = new Stripe(secretKey, {
    ...(apiBase === undefined ? {} : addressOf(new URL(apiBase))),
    timeout: timeoutMs,
    maxNetworkRetries: retries,
    telemetry: false,
  });
  const read: Record<StripeObjectKind, (id: string) => Promise<object>> = {
    subscription: (id) => stripe.subscriptions.retrieve(id),
    invoice: (id) => stripe.invoices.retrieve(id),
    charge: (id) => stripe.charges.retrieve(id),
    customer: (id) => stripe.customers.retrieve(id),
    dispute: (id) => stripe.disputes.retrieve(id),
    "checkout.session": (id) => stripe.checkout.sessions.retrieve(id),
  };
  return {
    async retrieve(kind, id, signal) {
      signal?.throwIfAborted();
      try {
        const found = { ...(await read[kind](id)) };
        return "deleted" in found && found.deleted === true ? undefined : found;
      } catch (error) {
        if (error instanceof Stripe.errors.StripeError && error.code === "resource_missing") return undefined;
        throw explain(error, `read a ${kind}`);
      }
    },
    findCustomers: (email) =>
      ask("look for a customer", async () => {
        const { data } = await stripe.customers.list({ email, limit: PAGE });
        return data.map(toCustomer);
      }),
    createCustomer: ({ tenantId, email, name }, key) =>
      ask("create a customer", async () => {
        const customer = { email, name, metadata: { tenant_id: tenantId } };
        return toCustomer(await stripe.customers.create(customer, { idempotencyKey: digest(key) }));
      }),
    findPrice: (id) =>
      ask("read a price", async () => {
        try {
          const { active, recurring } = await stripe.prices.retrieve(id);
          return { isActive: active, isRecurring: recurring !== null };
        } catch (error) {
          if (error instanceof Stripe.errors.StripeError && error.code === "resource_missing") return undefined;
          throw error;
        }
      }),
    listSubscriptionsOf: (customer) =>
      ask("list a customer's subscriptions", async () => {
        try {
          const { data } = await stripe.subscriptions.list({ customer, status: "all", limit: PAGE });
          return data.map(({ id, status }) => ({ id, status }));
        } catch (error) {
          // Nobody that Stripe doesn't know has any.
          if (error instanceof Stripe.errors.StripeError && error.code === "resource_missing") return [];
          throw error;
        }
      }),
    listSubscriptions: (after) =>
      ask("list subscriptions", async () => {
        const paging = { limit: PAGE, ...(after === undefined ? {} : { starting_after: after }) };
        const { data, has_more: hasMore } = await stripe.subscriptions.list({
          status: "all",
          expand: ["data.latest_invoice"],
          ...paging,
        });
        return { subscriptions: data.map((one) => ({ ...one })), last: hasMore ? data.at(-1)?.id : undefined };
      }),
    listCheckouts: (customer) =>
      ask("list a customer's checkouts", async () => {
        const { data } = await stripe.checkout.sessions.list({ customer, limit: PAGE });
        return data.map(toCheckout);
      }),
    createCheckout: (checkout, key) =>
      ask("create a checkout", async () =>
        toCheckout(await stripe.checkout.sessions.create(checkoutParams(checkout), { idempotencyKey: digest(key) })),
      ),
    expireCheckout: (id) => ask("expire a checkout", async () => void (await stripe.checkout.sessions.expire(id))),
    createPortal: (customer, returnUrl) =>
      ask("create a portal session", async () => {
        const { url } = await stripe.billingPortal.sessions.create({ customer, return_url: returnUrl });
        return { url };
      }),
  };
}

async function ask<Result>(what: string, call: () => Promise<Result>): Promise<Result> {
  try {
    return await call();
  } catch (error) {
    throw explain(error, what);
  }
}

/** Stripe takes keys of 255 characters at most. */
function digest(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}

/** Where events and whoever looks at Stripe's pages find the tenant: Stripe hands a session's metadata on to nothing. */
function checkoutParams(checkout: NewCheckout & { offer: string }): Stripe.Checkout.SessionCreateParams {
  const metadata = { tenant_id: checkout.tenantId, offer: checkout.offer };
  const { trialEndsAt } = checkout;
  return {
    mode: "subscription",
    customer: checkout.customerId,
    client_reference_id: checkout.tenantId,
    line_items: [{ price: checkout.priceId, quantity: 1 }],
    metadata,
    subscription_data: {
      metadata: { tenant_id: checkout.tenantId },
      ...(trialEndsAt === undefined ? {} : { trial_end: Math.floor(trialEndsAt.getTime() / 1_000) }),
    },
    success_url: checkout.successUrl,
    cancel_url: checkout.cancelUrl,
  };
}

function toCustomer({ id, metadata }: Stripe.Customer): StripeCustomer {
  return { id, tenantId: metadata["tenant_id"] };
}

function toCheckout({ id, url, status, metadata, expires_at: expiresAt }: Stripe.Checkout.Session): StripeCheckout {
  const offer = metadata?.["offer"];
  return { id, url, isOpen: status === "open", offer, expiresAt: new Date(expiresAt * 1_000) };
}

function addressOf({ protocol, hostname, port }: URL): Stripe.StripeConfig {
  const isPlain = protocol === "http:";
  return {
    host: hostname,
    port: port === "" ? (isPlain ? 80 : 443) : Number(port),
    protocol: isPlain ? "http" : "https",
  };
}

/** In our words: the SDK's errors hold headers, and what they say of a key. */
function explain(error: unknown, what: string): UpstreamError {
  if (!(error instanceof Stripe.errors.StripeError)) {
    return new UpstreamError("stripe-failed", `Stripe could not be asked to ${what}`, {
      service: "stripe",
      retryable: true,
      cause: error,
    });
  }
  const { code, message, isOurs } = reasonOf(error);
  return new UpstreamError(code, message, { service: "stripe", retryable: !isOurs });
}

/** `isOurs`: asking again, as it is, would be refused again. */
function reasonOf(error: Stripe.errors.StripeError): { code: string; message: string; isOurs: boolean } {
  if (
    error instanceof Stripe.errors.StripeAuthenticationError ||
    error instanceof Stripe.errors.StripePermissionError
  ) {
    const message = "Stripe refuses the key in STRIPE_SECRET_KEY: it is wrong, was revoked, or may not read this";
    return { code: "stripe-key-refused", message, isOurs: true };
  }
  if (error instanceof Stripe.errors.StripeRateLimitError)
    return { code: "stripe-busy", message: "Stripe asks for fewer requests", isOurs: false };
  if (error instanceof Stripe.errors.StripeConnectionError)
    return { code: "stripe-unreachable", message: "Stripe can't be reached", isOurs: false };
  // What it says of a request of ours, such as a price that isn't there, holds no secret.
  if (error instanceof Stripe.errors.StripeInvalidRequestError)
    return { code: "stripe-refused", message: `Stripe refuses the request: ${error.message}`, isOurs: true };
  const message =
    error.statusCode === undefined
      ? "what answers at Stripe's address is not Stripe"
      : `Stripe answered with status ${error.statusCode}`;
  return { code: "stripe-failed", message, isOurs: false };
}
