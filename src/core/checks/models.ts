import { findPrice, readPriceTable } from "../billing/billing.ts";
import { type Check, failed, ok } from "../platform/check.ts";
import type { Config, Secrets } from "../platform/config.ts";

/** Whether runtimes can use the models of their tiers; nothing is asked of a provider, which would cost. */
export function modelCheck({ config, secrets }: { config: Config; secrets: Secrets }): Check {
  return {
    name: "models",
    async run() {
      const { basic, plus } = config.runtime.modelsByTier;
      const models = [...new Set([...basic, ...plus])];
      const prices = await readPriceTable(config.models.pricesFile);
      const unpriced = models.filter((model) => findPrice(prices, model) === undefined);
      if (unpriced.length > 0)
        return failed(`refused for want of a price: ${unpriced.join(", ")}`, "Add them to OPENCLAW_PRICES_FILE.");
      const isAnthropic = (model: string) => model.startsWith("claude");
      const keys = [
        ...(models.some(isAnthropic) && secrets.anthropicApiKey === undefined ? ["ANTHROPIC_API_KEY"] : []),
        ...(models.every(isAnthropic) || secrets.openaiApiKey !== undefined ? [] : ["OPENAI_API_KEY"]),
      ];
      if (keys.length > 0) return failed(`${models.join(", ")} can't be called`, `Set ${keys.join(" and ")}.`);
      return ok(models.join(", "));
    },
  };
}
