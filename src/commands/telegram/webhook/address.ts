import { WEBHOOK_PATH, webhookUrlProblem } from "../../../core/adapters/telegram/webhook.ts";
import type { Config, Secrets } from "../../../core/platform/config.ts";
import { ConfigError, UsageError } from "../../../core/platform/errors.ts";

/** Where Telegram is to send updates, by the configuration; null while that says nothing. */
export function configuredUrl({ http }: Config): string | null {
  return http.publicUrl === undefined ? null : http.publicUrl + WEBHOOK_PATH;
}

/**
 * What the webhook needs: where it is, of `--url` or else of the configuration, and the secret that it believes.
 * @throws UsageError, or ConfigError holding every problem.
 */
export function webhookTarget(
  { config, secrets }: { config: Config; secrets: Secrets },
  given: string | undefined,
): { url: string; secret: string } {
  const url = given === undefined ? configuredUrl(config) : withPath(given);
  const problem = url === null ? undefined : webhookUrlProblem(url);
  if (given !== undefined && problem !== undefined) throw new UsageError("url_invalid", `--url: ${problem}.`);
  const example = "expected e.g. https://bot.example.com";
  const problems = [
    ...(url === null ? [`OPENCLAW_PUBLIC_URL is not set; ${example}`] : []),
    ...(problem === undefined ? [] : [`OPENCLAW_PUBLIC_URL: ${problem}; ${example}`]),
    ...(secrets.telegramWebhookSecret === undefined
      ? ["TELEGRAM_WEBHOOK_SECRET is not set; expected 1 to 256 of A-Z a-z 0-9 _ -, e.g. of: openssl rand -hex 32"]
      : []),
  ];
  if (url === null || secrets.telegramWebhookSecret === undefined || problems.length > 0)
    throw new ConfigError("webhook_unconfigured", problems);
  return { url, secret: secrets.telegramWebhookSecret };
}

/** An address without a path is that of the public listener. */
function withPath(url: string): string {
  return URL.parse(url)?.pathname === "/" ? url.replace(/\/?$/, WEBHOOK_PATH) : url;
}
