import { type BotApi, BotApiError } from "../adapters/telegram/bot-api.ts";
import { fetchBot } from "../adapters/telegram/bot.ts";
import { compareKinds, fetchWebhookInfo, WEBHOOK_PATH, type WebhookInfo } from "../adapters/telegram/webhook.ts";
import type { Clock } from "../platform/clock.ts";
import { type Check, type CheckResult, failed, ok, warning } from "../platform/check.ts";
import type { Config, Secrets } from "../platform/config.ts";

type Settings = { config: Config; secrets: Secrets };
type Open = (() => Promise<BotApi>) | undefined;

/** What Telegram last complained of is told for so long. */
const RECENT_MS = 3_600_000;
/** More than a moment's worth of messages waits at Telegram. */
const MANY_PENDING = 100;
const NO_TOKEN = failed("no bot: nobody can write to it", "Set TELEGRAM_BOT_TOKEN to what BotFather gave.");

/** `open` undefined: there is no token. */
export function telegramChecks({ config, secrets }: Settings, open: Open, clock: Clock): Check[] {
  return [
    { name: "telegram bot", run: () => checkBot(open) },
    { name: "telegram webhook", run: () => checkWebhook({ config, secrets }, open, clock) },
  ];
}

async function withApi<Result>(open: () => Promise<BotApi>, work: (api: BotApi) => Promise<Result>): Promise<Result> {
  const api = await open();
  try {
    return await work(api);
  } finally {
    await api.close();
  }
}

async function checkBot(open: Open): Promise<CheckResult> {
  if (open === undefined) return NO_TOKEN;
  try {
    const { id, username } = await withApi(open, fetchBot);
    return ok(`@${username} (${id})`);
  } catch (error) {
    if (!(error instanceof BotApiError) || error.errorCode !== 401) throw error;
    return failed("Telegram refuses the token", "Get the one in force from BotFather and set TELEGRAM_BOT_TOKEN.");
  }
}

async function checkWebhook({ config, secrets }: Settings, open: Open, clock: Clock): Promise<CheckResult> {
  if (open === undefined) return NO_TOKEN;
  if (secrets.telegramWebhookSecret === undefined) {
    return failed(
      "without a secret no update of Telegram's is accepted",
      "Set TELEGRAM_WEBHOOK_SECRET, e.g. to what `openssl rand -hex 32` prints, and run: openclaw telegram webhook set",
    );
  }
  const info = await withApi(open, fetchWebhookInfo);
  return judgeWebhook(info, config.http.publicUrl, clock.now());
}

function judgeWebhook(info: WebhookInfo, publicUrl: string | undefined, now: Date): CheckResult {
  const remedy = "Run: openclaw telegram webhook set";
  if (info.url === "") return failed("Telegram sends updates nowhere", remedy);
  const expected = publicUrl === undefined ? info.url : publicUrl + WEBHOOK_PATH;
  if (info.url !== expected) return failed(`Telegram sends updates to ${info.url} instead of ${expected}`, remedy);
  const { lastError, pendingUpdates } = info;
  const state = `${info.url}, ${pendingUpdates} pending`;
  if (lastError !== null && now.getTime() - lastError.at.getTime() < RECENT_MS) {
    const at = lastError.at.toISOString();
    return warning(`${state}; last error at ${at}: ${lastError.message}`, "Look whether Telegram can reach it.");
  }
  const { missing } = compareKinds(info.allowedUpdates);
  if (missing.length > 0) return warning(`${state}; not sent: ${missing.join(", ")}`, remedy);
  if (pendingUpdates > MANY_PENDING) return warning(state, "Look whether a daemon with the role web keeps up.");
  return ok(state);
}
