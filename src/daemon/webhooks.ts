import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { verifyStripeEvent } from "../core/adapters/stripe/webhook.ts";
import { createLedger } from "../core/billing/billing.ts";
import type { Context } from "../core/context.ts";
import { errorBody, keepRawBodies } from "./http.ts";
import type { Metrics } from "./metrics.ts";

type Deps = { ctx: Context; metrics: Metrics };

/** `POST /webhooks/stripe`: verify the raw body, then ledger row and job in one transaction, then 200. */
export async function registerStripeWebhook(app: FastifyInstance, { ctx, metrics }: Deps): Promise<void> {
  keepRawBodies(app);
  const ledger = createLedger(ctx);
  app.post("/webhooks/stripe", async (request, reply) => {
    const secrets = ctx.secrets.stripeWebhookSecrets;
    if (secrets.length === 0) return closed(request, reply, "STRIPE_WEBHOOK_SECRET");
    const signature = request.headers["stripe-signature"];
    const body = bodyOf(request);
    const event = verifyStripeEvent(body, typeof signature === "string" ? signature : undefined, secrets);
    const result = await ledger.submit({ event, rawBody: body });
    metrics.webhooks.inc({ source: "stripe", result });
    return reply.code(200).send();
  });
}

/** Never open: without a secret nobody can be believed (F92). */
function closed(request: FastifyRequest, reply: FastifyReply, variable: string): FastifyReply {
  return reply
    .code(503)
    .send(errorBody("not_configured", `This webhook is closed until ${variable} is set.`, request.id));
}

function bodyOf(request: FastifyRequest): Buffer {
  return Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
}
