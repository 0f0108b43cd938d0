import { BotApiError, type BotApi, createBotApi } from "../../core/adapters/telegram/bot-api.ts";
import type { Config, Secrets } from "../../core/platform/config.ts";
import { ConfigError, UpstreamError } from "../../core/platform/errors.ts";

type Settings = { config: Config; secrets: Secrets };

/**
 * Runs a command's work with the bot's API, and closes it whatever happens.
 * @throws ConfigError without a token; a refused token in words that say what to do.
 */
export async function withBotApi<Result>(
  { config, secrets }: Settings,
  work: (api: BotApi) => Promise<Result>,
): Promise<Result> {
  const token = secrets.telegramBotToken;
  if (token === undefined) {
    throw new ConfigError("telegram_unconfigured", [
      "TELEGRAM_BOT_TOKEN is not set; expected 123456789:AAE… (as BotFather gives it)",
    ]);
  }
  const api = createBotApi({ apiRoot: config.telegram.apiRoot, token });
  try {
    return await work(api);
  } catch (error) {
    throw explainRefusal(error);
  } finally {
    await api.close();
  }
}

function explainRefusal(error: unknown): unknown {
  if (!(error instanceof BotApiError) || error.errorCode !== 401) return error;
  return new UpstreamError(
    "telegram_token_dead",
    "Telegram refuses the bot's token: it was revoked, or is not this bot's. Get the one in force from BotFather and set TELEGRAM_BOT_TOKEN.",
    { service: "telegram", retryable: false, cause: error },
  );
}
