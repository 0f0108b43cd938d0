import { Agent } from "undici";
import { errorMessage } from "../platform/errors.ts";
import { exchange } from "../platform/exchange.ts";

/** What the runtime said to one try. */
export type DeliveryResult =
  | { kind: "delivered" }
  /** The runtime will never take this one. */
  | { kind: "rejected"; status: number }
  /** It broke on this one; may be the update's fault when it happens again and again. */
  | { kind: "broke" }
  /** Another secret is in force there. */
  | { kind: "unauthorized" }
  | { kind: "unavailable"; reason: string };

const WEBHOOK_PATH = "/telegram-webhook";
const CONNECT_TIMEOUT_MS = 2_000;
const ANSWER_TIMEOUT_MS = 15_000;

export type Delivery = {
  /** Posts the update as received. Never throws for what the runtime, or its absence, does. */
  post(address: string, secret: string, body: Buffer): Promise<DeliveryResult>;
  close(): Promise<void>;
};

/** One pool of connections for each runtime, so that a dead one holds up nobody else. */
export function createDelivery(): Delivery {
  const agent = new Agent({
    // A tenant has one lane, and a lane one update in flight.
    connections: 1,
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: ANSWER_TIMEOUT_MS,
    bodyTimeout: ANSWER_TIMEOUT_MS,
    keepAliveTimeout: 10_000,
  });
  return {
    async post(address, secret, body) {
      try {
        const headers = { "content-type": "application/json", "x-telegram-bot-api-secret-token": secret };
        const answer = await exchange(agent, { origin: address, path: WEBHOOK_PATH, method: "POST", headers, body });
        return classify(answer.status, answer.headers["x-openclaw-delivery-accepted"]);
      } catch (error) {
        return { kind: "unavailable", reason: errorMessage(error) };
      }
    },
    close: () => agent.destroy(),
  };
}

/** Only 200 with the durable mark means that the runtime keeps the update through a crash (F18). */
export function classify(status: number, accepted: string | string[] | undefined): DeliveryResult {
  if (status === 200 && accepted === "durable") return { kind: "delivered" };
  if (status === 400 || status === 413) return { kind: "rejected", status };
  if (status === 500) return { kind: "broke" };
  if (status === 401) return { kind: "unauthorized" };
  return { kind: "unavailable", reason: status === 200 ? "200 without durable acceptance" : `status ${status}` };
}
