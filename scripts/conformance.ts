/**
 * `npm run conformance`: a tenant on the real OpenClaw, end to end. Installs it outside the project, runs the daemon with the local
 * driver on it against a loopback Bot API and a loopback model, and shows from outside what the control plane relies on.
 */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { randomUUID } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { request } from "undici";
import { computeSpec } from "../src/core/orchestrator/spec.ts";
import { createSteps } from "../src/commands/quickstart/steps.ts";
import { systemClock } from "../src/core/platform/clock.ts";
import { reachableDataDir } from "../src/core/platform/data-dir.ts";
import { errorMessage, UpstreamError } from "../src/core/platform/errors.ts";
import type { StampId, TenantId } from "../src/core/platform/ids.ts";
import { packageRoot } from "../src/core/platform/package-root.ts";
import { ACCOUNT, filesWith, followExample, followLink } from "./conformance/connection.ts";
import { type Cue, createCue } from "./conformance/cue.ts";
import { installOpenClaw } from "./conformance/install.ts";
import { openStage, readLogs, type Stage } from "./conformance/stage.ts";

const VERSION = "2026.9.6";
const START_TIMEOUT_S = 300;
const REPLY_TIMEOUT_MS = 240_000;
const CONFIG_TIMEOUT_MS = 30_000;
const SLUG = "conformance";
/** Spoken to by another API than the basic tier's. */
const PLUS_MODEL = "gpt-5-mini";
/** Calls that would change the shared bot for everybody; none of them may get through. */
const SHARED_BOT_CALL = /^(setWebhook|deleteWebhook|getUpdates|setMy.*|deleteMy.*|logOut|close)$/;

const run = promisify(execFile);
const stopping = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, () => stopping.abort());
const interrupted = once(stopping.signal, "abort").then(() => Promise.reject(new Error("interrupted")));
interrupted.catch(() => undefined);
const { run: runStep } = createSteps(false);
process.exitCode = await main();

async function main(): Promise<number> {
  const begun = performance.now();
  const opened: (() => Promise<unknown>)[] = [];
  const problems: unknown[] = [];
  await conform(opened).catch((error: unknown) => problems.push(error));
  // One that can't be undone doesn't keep the others from it.
  for (const close of opened.toReversed()) await close().catch((error: unknown) => problems.push(error));
  for (const problem of problems) console.error(`✗ ${errorMessage(problem)}`);
  if (problems.length > 0) return 1;
  console.log(`conformance passed in ${Math.round((performance.now() - begun) / 1_000)} s`);
  return 0;
}

async function conform(opened: (() => Promise<unknown>)[]): Promise<void> {
  const { signal } = stopping;
  await step("built", () => run(process.execPath, [path.join(packageRoot(), "scripts", "build.ts")], { signal }));
  const parent = await scratchParent();
  const binary = await step(
    `openclaw@${VERSION} installed`,
    () => installOpenClaw(parent, VERSION, signal),
    (file) => file,
  );
  const cue = createCue();
  const env = {
    OPENCLAW_RUNTIME_BIN: binary,
    OPENCLAW_MODEL_BASIC: "claude-haiku-4-5",
    OPENCLAW_MODEL_PLUS: PLUS_MODEL,
  };
  const model = {
    reply: (_prompt: string, body: Record<string, unknown>) => cue.reply(body),
    beforeEvent: () => cue.opening,
  };
  for (const [title, config] of emittedConfigs())
    await step(`${title}: configuration accepted without warnings`, async () => {
      const dataDir = path.join(parent, "openclaw-conformance-configs");
      await mkdir(dataDir, { recursive: true });
      const file = path.join(dataDir, "openclaw.json");
      await writeFile(file, JSON.stringify(config));
      await validateConfig({ dataDir }, file, binary);
    });
  const stage = await openStage({ parent, env, model, opened, signal });
  try {
    await exercise(stage, binary, cue);
  } catch (error) {
    console.error(await readLogs(stage.dataDir));
    throw error;
  }
}

/** As they go to Azure, where nothing is fitted to this machine: each tier with one model and with several, linked and not. */
function emittedConfigs(): [title: string, config: object][] {
  const models = { basic: ["claude-haiku-4-5"], plus: ["claude-sonnet-4-5", PLUS_MODEL, "claude-haiku-4-5"] };
  const fleet = { image: "openclaw:1", modelsByTier: models, internalUrl: "https://gateway.internal.example" };
  const tenant = {
    id: randomUUID() as TenantId,
    stampId: "default" as StampId,
    slug: SLUG,
    timeZone: "UTC",
    keyGeneration: 1,
  };
  return (["basic", "plus"] as const).flatMap((tier) =>
    [111_222_333, null].map((telegramUserId): [string, object] => {
      const spec = computeSpec({ ...tenant, tier, telegramUserId }, fleet);
      return [`tier ${tier}, ${telegramUserId === null ? "not linked" : "linked"}`, spec.config];
    }),
  );
}

async function exercise(stage: Stage, binary: string, cue: Cue): Promise<void> {
  const { openclaw, telegram, model } = stage;
  await step("database migrated", () => openclaw("migrate"));
  const { publicUrl } = await step("daemon ready", stage.startDaemon, (daemon) => daemon.publicUrl);
  const chat = ["--chat", String(stage.own.chatId)];
  const email = ["--email", "conformance@example.com"];
  const created = await openclaw("tenant", "create", SLUG, ...email, ...chat, "--billing-exempt", "--json");
  const { id }: { id: string } = JSON.parse(created);
  const runtime = path.join(stage.dataDir, "runtimes", id);

  // Its webhook listener is up, which it is only after its setWebhook was answered.
  await step("runtime healthy", () =>
    openclaw("tenant", "provision", SLUG, "--wait", "--timeout", String(START_TIMEOUT_S)),
  );
  const validate = () => validateConfig(stage, path.join(runtime, "openclaw.json"), binary);
  await step("configuration accepted without warnings", validate);
  const say = (nth: number, text: string) => {
    cue.reply = () => answerTo(nth);
    return converse(stage, publicUrl, nth, text);
  };
  await step("update answered by the real bot", () => say(1, "Hello!"));
  await step("second update survives SIGKILL of the runtime", async () => {
    cue.close();
    const answered = say(2, "Are you still there?");
    const asked = (call: { body: unknown }) => JSON.stringify(call.body).includes("Are you still there?");
    // In the middle of its turn: accepted for good, and not answered yet.
    await Promise.race([model.waitFor(asked, REPLY_TIMEOUT_MS), answered]);
    await killRuntime(runtime);
    cue.open();
    return await answered;
  });

  await useConnection(stage, publicUrl, cue, runtime);

  await step("update held while another model's API replaces the first, and answered", async () => {
    await openclaw("tenant", "update", SLUG, "--tier", "plus");
    await untilConfig(runtime, PLUS_MODEL);
    await say(5, "And now?");
  });
  await step("that configuration accepted without warnings", validate);
  await step("configuration without a linked chat accepted", async () => {
    await openclaw("tenant", "unlink", SLUG);
    await untilConfig(runtime, '"dmPolicy": "disabled"');
    await validate();
  });

  await step("models reached by the API of each", async () => {
    const paths = new Set(model.calls.map((call) => call.path));
    expect(paths.has("/v1/messages") && paths.has("/v1/chat/completions"), `only ${[...paths].join(" ")} was called`);
  });
  await step("every update answered once", async () => {
    const texts = telegram.messages(stage.own.chatId).map((message) => message.text ?? "");
    const counts = [1, 2, 3, 4, 5].map((nth) => texts.filter((text) => text.includes(answerTo(nth))).length);
    expect(
      counts.every((count) => count === 1),
      `the bot wrote: ${texts.join(" | ")}`,
    );
  });
  await step("the shared bot left alone", async () => {
    const touched = telegram.calls.map((call) => call.method).filter((method) => SHARED_BOT_CALL.test(method));
    expect(touched.length === 0, `these calls reached the Bot API: ${touched.join(", ")}`);
  });
}

function step<Result>(title: string, work: () => Promise<Result>, detail?: (result: Result) => string) {
  stopping.signal.throwIfAborted();
  return runStep(title, work, detail).catch((error: unknown) => {
    throw new Error(`${title}: ${errorMessage(error)}`, { cause: error });
  });
}

/** Where the runtimes' users get through to what lies in it. */
async function scratchParent(): Promise<string> {
  const parent = path.dirname(await reachableDataDir(path.join(tmpdir(), "openclaw-conformance")));
  await mkdir(parent, { recursive: true });
  return parent;
}

/** Asks the real binary about the file that the runtime runs on, with everything set that the file refers to. */
async function validateConfig({ dataDir }: Pick<Stage, "dataDir">, file: string, binary: string): Promise<void> {
  const references = [...(await readFile(file, "utf8")).matchAll(/\$\{([A-Z_]+)\}/g)].map((match) => match[1] ?? "");
  const env = {
    ...Object.fromEntries(references.map((name) => [name, "1:any"])),
    PATH: path.dirname(process.execPath),
    HOME: dataDir,
    OPENCLAW_STATE_DIR: path.join(dataDir, "validate"),
    OPENCLAW_CONFIG_PATH: file,
  };
  const args = [binary, "config", "validate", "--json"];
  const { stdout } = await run(process.execPath, args, { env, signal: stopping.signal });
  const verdict: { valid: boolean; warnings: unknown[] } = JSON.parse(stdout);
  expect(verdict.valid && verdict.warnings.length === 0, stdout);
}

function readConfig(runtime: string): Promise<string> {
  return readFile(path.join(runtime, "openclaw.json"), "utf8");
}

/** The runtime is replaced some time after the command that asks for it. */
async function untilConfig(runtime: string, part: string): Promise<void> {
  for (const deadline = performance.now() + CONFIG_TIMEOUT_MS; !(await readConfig(runtime)).includes(part);) {
    stopping.signal.throwIfAborted();
    expect(performance.now() < deadline, `no ${part} in openclaw.json within ${CONFIG_TIMEOUT_MS} ms`);
    await delay(100);
  }
}

/** Says `text` in the tenant's chat and waits until the model's answer reaches the Bot API, which takes the real token only. */
async function converse({ own, telegram }: Stage, publicUrl: string, nth: number, text: string): Promise<string> {
  const from = { id: own.chatId, is_bot: false, first_name: "You" };
  const date = Math.floor(systemClock.now().getTime() / 1_000);
  const message = { message_id: nth, date, from, chat: { id: own.chatId, type: "private" }, text };
  const { statusCode, body } = await request(`${publicUrl}/webhooks/telegram`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-telegram-bot-api-secret-token": own.telegramWebhookSecret },
    body: JSON.stringify({ update_id: nth, message }),
  });
  expect(statusCode === 200, `the webhook answered ${statusCode}: ${await body.text()}`);
  const isAnswer = (call: { method: string; params: Record<string, unknown> }) =>
    call.method === "sendMessage" &&
    Number(call.params["chat_id"]) === own.chatId &&
    String(call.params["text"]).includes(answerTo(nth));
  const answer = await Promise.race([telegram.waitFor(isAnswer, REPLY_TIMEOUT_MS), interrupted]);
  return String(answer.params["text"]);
}

/** Before and after an account is connected, of one and the same runtime. */
async function useConnection(stage: Stage, publicUrl: string, cue: Cue, runtime: string): Promise<void> {
  const { openclaw, oauth, model } = stage;
  const config = await readConfig(runtime);
  const ask = async (nth: number, question: string) => {
    const how = { question, words: answerTo(nth), apiUrl: oauth.meUrl };
    cue.reply = (body) => followExample(body, how);
    return await converse(stage, publicUrl, nth, question);
  };
  await step("assistant told that no account is connected", async () => {
    const answer = await ask(3, "Any mail before I connected?");
    expect(answer.includes("not connected") && !answer.includes(ACCOUNT), `the bot wrote: ${answer}`);
  });
  await step("account connected by its person", async () => {
    const { url }: { url: string } = JSON.parse(await openclaw("integration", "connect", SLUG, "gmail", "--json"));
    await followLink(url, oauth);
  });
  await step("account used by the assistant, with a token from the broker", async () => {
    const answer = await ask(4, "Any mail now?");
    expect(answer.includes(ACCOUNT), `the bot wrote: ${answer}`);
    expect(
      (await readConfig(runtime)) === config,
      "the configuration is another than before the account was connected",
    );
  });
  await step("token seen by neither the model nor the disk", async () => {
    const [{ authorization = "" } = {}] = oauth.requests.filter(({ path: asked }) => asked === "/me");
    const token = authorization.slice("Bearer ".length);
    expect(token !== "", "no token reached the provider");
    expect(!JSON.stringify(model.calls.map(({ body }) => body)).includes(token), "the model was sent the token");
    const found = await filesWith(runtime, token);
    expect(found.length === 0, `the token lies in ${found.join(", ")}`);
  });
}

/** Told apart from what the router and OpenClaw write of their own accord, such as after a crash. */
function answerTo(nth: number): string {
  return `The model answers update ${nth}.`;
}

/** The whole of it: the process on record is only the parent of the one that works. */
async function killRuntime(runtime: string): Promise<void> {
  const { pid }: { pid: number } = JSON.parse(await readFile(path.join(runtime, "process.json"), "utf8"));
  process.kill(-pid, "SIGKILL");
}

function expect(isSo: boolean, problem: string): void {
  if (!isSo) throw new UpstreamError("not_conforming", problem, { service: "openclaw", retryable: false });
}
