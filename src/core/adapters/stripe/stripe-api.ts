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
};

const TIMEOUT_MS = 20_000;
/** By the SDK, with growing pauses, for what may succeed at once; a refusal for now is its caller's to wait out. */
const RETRIES = 2;

/** Stripe's API at `apiBase`, as the SDK calls it: with the API version that it was made for. */
export function createStripeApi({ secretKey, apiBase }: { secretKey: string; apiBase: string | undefined }): StripeApi {
  const stripe = new Stripe(secretKey, {
    ...(apiBase === undefined ? {} : addressOf(new URL(apiBase))),
    timeout: TIMEOUT_MS,
    maxNetworkRetries: RETRIES,
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
        throw explain(error, kind);
      }
    },
  };
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
function explain(error: unknown, kind: StripeObjectKind): UpstreamError {
  if (!(error instanceof Stripe.errors.StripeError)) {
    return new UpstreamError("stripe-failed", `Stripe could not be asked for a ${kind}`, {
      service: "stripe",
      retryable: true,
      cause: error,
    });
  }
  const { code, message, isKeyAtFault } = reasonOf(error);
  return new UpstreamError(code, message, { service: "stripe", retryable: !isKeyAtFault });
}

function reasonOf(error: Stripe.errors.StripeError): { code: string; message: string; isKeyAtFault: boolean } {
  if (
    error instanceof Stripe.errors.StripeAuthenticationError ||
    error instanceof Stripe.errors.StripePermissionError
  ) {
    const message = "Stripe refuses the key in STRIPE_SECRET_KEY: it is wrong, was revoked, or may not read this";
    return { code: "stripe-key-refused", message, isKeyAtFault: true };
  }
  if (error instanceof Stripe.errors.StripeRateLimitError)
    return { code: "stripe-busy", message: "Stripe asks for fewer requests", isKeyAtFault: false };
  if (error instanceof Stripe.errors.StripeConnectionError)
    return { code: "stripe-unreachable", message: "Stripe can't be reached", isKeyAtFault: false };
  return { code: "stripe-failed", message: `Stripe answered with status ${error.statusCode}`, isKeyAtFault: false };
}
