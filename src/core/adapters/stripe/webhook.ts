import Stripe from "stripe";
import { UsageError } from "../../platform/errors.ts";
import { parseStripeEvent, type StripeEvent } from "./stripe-event.ts";

/**
 * The event that Stripe sent, its signature checked over `rawBody` as it came (every `v1`, at most 300 s old). Several
 * secrets are valid while one is being rolled; an empty list refuses everything (F92).
 * @throws UsageError `signature_invalid`, or `event_invalid` when the signed body is no snapshot event.
 */
export function verifyStripeEvent(rawBody: Buffer, signatureHeader: string | undefined, secrets: readonly string[]): StripeEvent {
  let refusal: unknown;
  for (const secret of secrets) {
    try {
      return parseStripeEvent(Stripe.webhooks.constructEvent(rawBody, signatureHeader ?? "", secret));
    } catch (error) {
      // Another secret may still match; a body that verified and is no event stays so under every secret.
      if (!(error instanceof Stripe.errors.StripeSignatureVerificationError)) throw notAnEvent(error);
      refusal = error;
    }
  }
  throw new UsageError("signature_invalid", "The Stripe-Signature header doesn't match the body.", { cause: refusal });
}

function notAnEvent(cause: unknown): UsageError {
  if (cause instanceof UsageError) return cause;
  return new UsageError("event_invalid", "The body is signed, but is not a Stripe event.", { cause });
}
