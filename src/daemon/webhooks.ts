import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { verifyStripeEvent } from "../core/adapters/stripe/webhook.ts";
import { acceptStripeEvent } from "../core/billing/billing.ts";
import type { Context } from "../core/context.ts";
import type { Acceptor } from "../core/router/router.ts";
import { errorBody, isSameSecret, keepRawBodies } from "./http.ts";
import type { Metrics } from "./metrics.ts";

type Deps = { ctx: Context; metrics: Metrics };

/** `POST /webhooks/stripe`: verify the raw body, then ledger row and job in one transaction, then 200. */
export async function registerStripeWebhook(app: FastifyInstance, { ctx, metrics }: Deps): Promise<void> {
  keepRawBodies(app);
  app.post("/webhooks/stripe", async (request, reply) => {
    const secrets = ctx.secrets.stripeWebhookSecrets;
    if (secrets.length === 0) return closed(request, reply, "STRIPE_WEBHOOK_SECRET");
    const signature = request.headers["stripe-signature"];
    const body = bodyOf(request);
    const event = verifyStripeEvent(body, typeof signature === "string" ? signature : undefined, secrets);
    const result = await acceptStripeEvent(ctx, event, body);
    metrics.webhooks.inc({ source: "stripe", result });
    return reply.code(200).send();
  });
}

/** `POST /webhooks/telegram`: check the secret before the body is read, keep the update, then 200 with an empty body. */
export async function registerTelegramWebhook(
  app: FastifyInstance,
  { ctx, metrics, acceptor }: Deps & { acceptor: Acceptor | undefined },
) {
  keepRawBodies(app);
  const secret = ctx.secrets.telegramWebhookSecret;
  app.post(
    "/webhooks/telegram",
    {
      onRequest: async (request, reply) => {
        if (secret === undefined) return closed(request, reply, "TELEGRAM_WEBHOOK_SECRET");
        const given = request.headers["x-telegram-bot-api-secret-token"];
        if (typeof given === "string" && isSameSecret(given, secret)) return;
        metrics.webhooks.inc({ source: "telegram", result: "forbidden" });
        return reply.code(403).send(errorBody("forbidden", "The secret token is wrong.", request.id));
      },
    },
    async (request, reply) => {
      if (acceptor === undefined) return closed(request, reply, "TELEGRAM_BOT_TOKEN");
      const result = await acceptor.accept(bodyOf(request));
      metrics.webhooks.inc({ source: "telegram", result });
      return reply.code(200).send();
    },
  );
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
