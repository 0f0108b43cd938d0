import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import path from "node:path";
import { test, type TestContext } from "node:test";
import type { ContainerApp } from "@azure/arm-appcontainers";
import { request } from "undici";
import { until } from "../../../../adapters/runtime/contract.ts";
import { startModelServer } from "../../model-server.ts";
import { startTelegramServer } from "../../telegram-server.ts";
import { FAST, prepareApp, setUpArm } from "./test-setup.ts";

const BOT_TOKEN = "4242:AAtenantown";
const SENDER = 111_222_333;

async function setUp(t: TestContext) {
  const bench = await setUpArm(t, { containers: "sandbox" });
  const telegram = await startTelegramServer({ token: BOT_TOKEN });
  t.after(() => telegram.close());
  const model = await startModelServer();
  t.after(() => model.close());
  const { app } = await prepareApp(bench.azure, bench.clients, "acme");
  return { ...bench, telegram, app: withConfig(app, { apiRoot: telegram.url, modelUrl: model.url }) };
}

/** The configuration lies in a Secret volume, as a container finds it. */
function withConfig(app: ContainerApp, { apiRoot, modelUrl }: { apiRoot: string; modelUrl: string }): ContainerApp {
  const config = {
    gateway: { mode: "local", bind: "lan", port: 18_789 },
    models: { providers: { cp: { baseUrl: `${modelUrl}/v1`, apiKey: "key", api: "openai-completions" } } },
    agents: { defaults: { model: { primary: "cp/one" }, workspace: "/home/node/.openclaw/workspace" } },
    channels: {
      telegram: {
        enabled: true,
        name: "acme",
        botToken: BOT_TOKEN,
        apiRoot,
        dmPolicy: "allowlist",
        allowFrom: [String(SENDER)],
        webhookUrl: "https://control-plane.invalid/",
        webhookSecret: "${TELEGRAM_WEBHOOK_SECRET}",
        webhookHost: "0.0.0.0",
        webhookPort: 8787,
      },
    },
  };
  const [container] = app.template?.containers ?? [];
  return {
    ...app,
    configuration: {
      ...app.configuration,
      secrets: [...(app.configuration?.secrets ?? []), { name: "config", value: JSON.stringify(config) }],
    },
    template: {
      ...app.template,
      containers: [
        {
          ...container,
          env: [
            ...(container?.env ?? []),
            { name: "OPENCLAW_CONFIG_PATH", value: "/etc/openclaw/openclaw.json" },
            { name: "OPENCLAW_STATE_DIR", value: "/home/node/.openclaw" },
          ],
          volumeMounts: [...(container?.volumeMounts ?? []), { volumeName: "config", mountPath: "/etc/openclaw" }],
        },
      ],
      volumes: [
        ...(app.template?.volumes ?? []),
        { name: "config", storageType: "Secret", secrets: [{ secretRef: "config", path: "openclaw.json" }] },
      ],
    },
  };
}

async function statusOf(address: string): Promise<number> {
  const { statusCode, body } = await request(`${address}/healthz`);
  await body.dump();
  return statusCode;
}

function deliver(address: string, updateId: number, text: string) {
  const person = { id: SENDER, is_bot: false, first_name: "Ada" };
  return request(`${address}/telegram-webhook`, {
    method: "POST",
    headers: { "x-telegram-bot-api-secret-token": "s3cret", "content-type": "application/json" },
    body: JSON.stringify({
      update_id: updateId,
      message: { message_id: updateId, date: 1, chat: { id: SENDER, type: "private" }, from: person, text },
    }),
  });
}

test("a container is a sandbox runtime with its state on the share, which sleeps, wakes and survives being killed", async (t) => {
  const { arm, clients, group, app, telegram } = await setUp(t);
  const { configuration } = await clients.containers.containerApps.createOrUpdate(group, "acme", app, FAST);
  const address = `https://${configuration?.ingress?.fqdn}`;
  await until(async () => (await statusOf(address)) === 200 || undefined, "the runtime to be healthy");
  const accepted = await deliver(address, 1, "hello");
  assert.equal(accepted.headers["x-openclaw-delivery-accepted"], "durable");
  await telegram.waitFor(({ method, params }) => method === "sendMessage" && String(params["text"]).includes("hello"));
  const [share] = arm.state.shares();
  assert.ok(existsSync(path.join(share?.folder ?? "", "acme", "sandbox")));

  const { containerAppsRevisions: revisions } = clients.containers;
  await revisions.deactivateRevision(group, "acme", "acme--one");
  await until(
    async () => (await revisions.getRevision(group, "acme", "acme--one")).replicas === 0 || undefined,
    "the replica to be gone",
  );
  assert.deepEqual(arm.state.replicas(), { "acme/acme--one": 0 });
  assert.equal(await statusOf(address), 404);
  await revisions.activateRevision(group, "acme", "acme--one");
  await until(async () => (await statusOf(address)) === 200 || undefined, "the runtime to wake");

  arm.kill("acme");
  await until(async () => (await statusOf(address)) === 503 || undefined, "the runtime to be down");
  await until(async () => (await statusOf(address)) === 200 || undefined, "the runtime to be started again");
  await clients.containers.containerApps.delete(group, "acme", FAST);
  assert.deepEqual(arm.state.replicas(), {});
  assert.deepEqual(arm.violations, []);
});

test("a revision that starts while another still runs on its state is noticed (F42)", async (t) => {
  const { arm, clients, group, app } = await setUp(t);
  await clients.containers.containerApps.createOrUpdate(group, "acme", app, FAST);
  const next = { ...app, template: { ...app.template, revisionSuffix: "two" } };
  await clients.containers.containerApps.createOrUpdate(group, "acme", next, FAST);
  assert.deepEqual(arm.violations, ["acme--two was started while acme--one still ran on the same state"]);
});
