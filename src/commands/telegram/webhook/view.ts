import { compareKinds, type WebhookInfo } from "../../../core/adapters/telegram/webhook.ts";
import { printFields } from "../../output.ts";
import { formatTime } from "../../tenant/view.ts";

/** The documented JSON form of a webhook as Telegram has it. `expectedUrl` is what the configuration says, if it does. */
export function webhookDocument(bot: string, info: WebhookInfo, expectedUrl: string | null) {
  return {
    bot,
    ...info,
    url: info.url === "" ? null : info.url,
    expectedUrl,
    kinds: compareKinds(info.allowedUpdates),
  };
}

export function printWebhook({ url, expectedUrl, kinds, ...info }: ReturnType<typeof webhookDocument>): void {
  const differs = url !== null && expectedUrl !== null && url !== expectedUrl;
  printFields([
    ["bot", `@${info.bot}`],
    ["url", `${url ?? "none is set"}${differs ? ` (configured: ${expectedUrl})` : ""}`],
    ["pending", String(info.pendingUpdates)],
    ["last error", info.lastError === null ? "–" : `${formatTime(info.lastError.at)}: ${info.lastError.message}`],
    ["last sync error", formatTime(info.lastSynchronizationErrorAt)],
    ["address", info.ipAddress ?? "–"],
    ["connections", info.maxConnections === null ? "–" : `at most ${info.maxConnections}`],
    ["update kinds", `${info.allowedUpdates.length}${describe(kinds)}`],
  ]);
}

function describe({ missing, unexpected }: { missing: string[]; unexpected: string[] }): string {
  const parts = [
    missing.length === 0 ? [] : [`not sent: ${missing.join(", ")}`],
    unexpected.length === 0 ? [] : [`unknown here: ${unexpected.join(", ")}`],
  ].flat();
  return parts.length === 0 ? ", as wanted" : `; ${parts.join("; ")}`;
}
