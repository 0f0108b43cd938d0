/**
 * The sandbox runtime: stands in for OpenClaw where no real one is installed. It reads the same configuration file, speaks the same
 * webhook, Bot API and model contracts, keeps accepted updates on disk, and says in every answer what it is. It runs on its own,
 * as a copied file if need be, and so uses nothing but Node and the modules in `sandbox/`.
 */
import path from "node:path";
import { createBotApi, type BotApi } from "./sandbox/bot-api.ts";
import { askConnections } from "./sandbox/connections.ts";
import { openJournal, type Journal, type Pending } from "./sandbox/journal.ts";
import { startListener } from "./sandbox/listener.ts";
import { askModel } from "./sandbox/model.ts";
import { readSettings, SettingsError, type Settings } from "./sandbox/settings.ts";
import { keysOf, turnOf } from "./sandbox/update.ts";

/** What the real runtime exits with when no restart can help. */
const EXIT_CONFIGURATION = 78;
/** Less than the driver's patience between SIGTERM and SIGKILL. */
const FINISH_WITHIN_MS = 8_000;
const MAX_TEXT = 4_096;
const SIGNATURE = "\n\n(This is the sandbox runtime, not a real OpenClaw.)";

/** One JSON line on standard output. Never words of a person, never a URL. */
function log(message: string, fields: Record<string, unknown> = {}): void {
  const time = Math.round(performance.timeOrigin + performance.now());
  process.stdout.write(`${JSON.stringify({ time, msg: message, ...fields })}\n`);
}

async function main(): Promise<void> {
  const settings = readSettings(process.env);
  log("sandbox runtime: this is not a real OpenClaw", { name: settings.name, node: process.version, pid: process.pid });
  const stopping = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      log("stopping", { signal });
      stopping.abort();
      setTimeout(() => process.exit(0), FINISH_WITHIN_MS).unref();
    });
  }

  const botApi = createBotApi({ ...settings.telegram, log });
  const journal = await openJournal(path.join(settings.stateDir, "sandbox"));
  await announce(botApi, settings, stopping.signal);
  const server = await startListener(settings.listen, (updateId, update) =>
    accept(journal, settings, updateId, update),
  );
  log("ready", { port: settings.listen.port });

  for (;;) {
    const pending = await journal.next(stopping.signal);
    if (pending === undefined) break;
    await takeTurn(pending, { journal, botApi, settings, signal: stopping.signal });
  }
  await new Promise((resolve) => {
    server.close(resolve);
    server.closeIdleConnections();
  });
  await journal.close();
}

/** The calls that the real runtime makes at every start. Without a webhook that is accepted nothing would ever arrive. */
async function announce(botApi: BotApi, { telegram, listen }: Settings, signal: AbortSignal): Promise<void> {
  const me = await botApi.decide("getMe", undefined, signal);
  if (!me.ok) throw new Error(`getMe was refused: ${me.status} ${me.description}`);
  const webhook = await botApi.decide("setWebhook", { url: telegram.webhookUrl, secret_token: listen.secret }, signal);
  if (!webhook.ok) throw new Error(`setWebhook was refused: ${webhook.status} ${webhook.description}`);
  const groups = { type: "all_group_chats" };
  const commands = [{ command: "help", description: "What this assistant can do" }];
  await botApi.hint("deleteMyCommands", {});
  await botApi.hint("deleteMyCommands", { scope: groups });
  await botApi.hint("setMyCommands", { commands });
  await botApi.hint("setMyCommands", { commands, scope: groups });
}

/** Strangers and groups are dropped without a sign, as the real runtime does. */
async function accept(journal: Journal, settings: Settings, updateId: number, update: unknown): Promise<void> {
  const turn = turnOf(update);
  if (turn === undefined || !settings.telegram.allowFrom.has(turn.senderId)) return log("dropped", { updateId });
  await journal.accept({ id: updateId, keys: keysOf(updateId, update), update });
}

type Work = { journal: Journal; botApi: BotApi; settings: Settings; signal: AbortSignal };

/** Answers one update. Cut off anywhere, the next start takes it up again from the last step on disk. */
async function takeTurn(pending: Pending, { journal, botApi, settings, signal }: Work): Promise<void> {
  const turn = turnOf(pending.update);
  if (turn === undefined) return journal.finish(pending);
  if (turn.callbackQueryId !== undefined)
    await botApi.hint("answerCallbackQuery", { callback_query_id: turn.callbackQueryId });
  if (pending.answer === undefined) {
    await botApi.hint("sendChatAction", { chat_id: turn.chatId, action: "typing" });
    pending.answer =
      (await askConnections(settings.connections, turn.prompt)) ?? (await askModel(settings.model, turn.prompt));
    await journal.saveAnswer(pending, pending.answer);
  }
  const text = pending.answer.slice(0, MAX_TEXT - SIGNATURE.length) + SIGNATURE;
  const sent = await botApi.decide("sendMessage", { chat_id: turn.chatId, text }, signal);
  if (!sent.ok) log("reply refused", { updateId: pending.id, status: sent.status, description: sent.description });
  await journal.finish(pending);
}

try {
  await main();
} catch (error) {
  const stopped = error instanceof Error && error.name === "AbortError";
  if (!stopped) log("fatal", { error: error instanceof Error ? error.message : String(error) });
  process.exitCode = stopped ? 0 : error instanceof SettingsError ? EXIT_CONFIGURATION : 1;
}
process.exit();
