import Stripe from "stripe";
import { UsageError } from "../../platform/errors.ts";
import { parseStripeEvent, type StripeEvent } from "./stripe-event.ts";

const TOLERANCE_SECONDS = 300;

/**
 * The event that Stripe sent, its signature checked over `rawBody` as it came (every `v1`, at most 300 s old). Several
 * secrets are valid while one is being rolled; an empty list refuses everything (F92).
 * @throws UsageError `signature_invalid`, or `event_invalid` when the signed body is no snapshot event.
 */
export function verifyStripeEvent(
  rawBody: Buffer,
  signatureHeader: string | undefined,
  secrets: readonly string[],
): StripeEvent {
  verifySignature(rawBody, signatureHeader ?? "", secrets);
  return parseStripeEvent(parseJson(rawBody));
}

function verifySignature(rawBody: Buffer, header: string, secrets: readonly string[]): void {
  let refusal: unknown;
  for (const secret of secrets) {
    try {
      if (Stripe.webhooks.signature?.verifyHeader(rawBody, header, secret, TOLERANCE_SECONDS)) return;
    } catch (error) {
      // Another secret may still match. A malformed header makes the SDK throw all kinds of errors: each is a refusal.
      refusal = error;
    }
  }
  throw new UsageError("signature_invalid", "The Stripe-Signature header doesn't match the body.", { cause: refusal });
}

function parseJson(rawBody: Buffer): unknown {
  try {
    return JSON.parse(rawBody.toString("utf8"));
  } catch (cause) {
    throw new UsageError("event_invalid", "The body is signed, but is not JSON.", { cause });
  }
}
