import type { IncomingMessage, ServerResponse } from "node:http";
import { readBody } from "../../loopback.ts";
import type { Container, ContainerHealth, ContainerHost, ContainerSpec } from "./container-host.ts";
import type { Settle } from "./world.ts";

export type HealthRule = (container: Pick<ContainerSpec, "app" | "tags" | "revision" | "image">) => ContainerHealth;

/** An update that a virtual container accepted. */
export type Delivery = { app: string; tags: Readonly<Record<string, string>>; revision: string; body: unknown };

/** Containers that are only said to run: cheap enough for fleets of hundreds. */
export function createVirtualContainers(settle: Settle): ContainerHost & {
  setHealth(rule: HealthRule): void;
  deliveries: Delivery[];
} {
  let rule: HealthRule = () => "healthy";
  const deliveries: Delivery[] = [];

  function start(spec: ContainerSpec): Container {
    let isRunning = true;
    let looks = settle.healthReads;
    const health = (): ContainerHealth => {
      if (looks === 0) return rule(spec);
      looks -= 1;
      return "starting";
    };
    return {
      health: async () => health(),
      serve: (request, response) => serve(spec, health(), request, response),
      stop() {
        isRunning = false;
      },
      isRunning: () => isRunning,
    };
  }

  async function serve(
    { app, tags, revision, env }: ContainerSpec,
    health: ContainerHealth,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const body = await readBody(request);
    if (health !== "healthy") return answer(response, 503, "");
    if (request.method === "GET" && request.url === "/healthz") return answer(response, 200, "ok");
    if (request.method !== "POST" || request.url !== "/telegram-webhook") return answer(response, 404, "");
    const secret = env["TELEGRAM_WEBHOOK_SECRET"];
    if (secret === undefined || request.headers["x-telegram-bot-api-secret-token"] !== secret)
      return answer(response, 401, "unauthorized");
    deliveries.push({ app, tags, revision, body: JSON.parse(body.toString("utf8")) as unknown });
    answer(response.setHeader("x-openclaw-delivery-accepted", "durable"), 200, "");
  }

  return {
    start,
    deliveries,
    setHealth(given) {
      rule = given;
    },
    close: async () => {},
  };
}

function answer(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { "content-length": Buffer.byteLength(body) }).end(body);
}
