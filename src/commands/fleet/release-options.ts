import { type Command, InvalidArgumentError } from "commander";
import { findPrice, readPriceTable } from "../../core/billing/billing.ts";
import type { Store } from "../../core/context.ts";
import type { FleetContext, ReleaseChange } from "../../core/orchestrator/orchestrator.ts";
import type { Config } from "../../core/platform/config.ts";
import { UsageError } from "../../core/platform/errors.ts";

type Options = { image?: string; modelBasic?: string[]; modelPlus?: string[] };

/** Adds the options for what a release has other than the current one. */
export function withReleaseOptions(command: Command): Command {
  return command
    .option("--image <reference>", "by a tag that is never moved, or by a digest")
    .option("--model-basic <models>", "of the tier basic, comma-separated, the first one primary", modelList)
    .option("--model-plus <models>", "of the tier plus, likewise", modelList)
    .option("--force", "also what is known to fail");
}

/** The change that the options ask for. @throws UsageError for a model that has no price: calls of it would be refused. */
export async function readReleaseChange(config: Config, options: Options): Promise<ReleaseChange> {
  const { image, modelBasic, modelPlus } = options;
  const models = [...(modelBasic ?? []), ...(modelPlus ?? [])];
  const prices = models.length === 0 ? undefined : await readPriceTable(config.models.pricesFile);
  const unpriced = models.filter((model) => prices !== undefined && findPrice(prices, model) === undefined);
  if (unpriced.length > 0) {
    throw new UsageError(
      "model_unpriced",
      `There is no price for ${unpriced.join(", ")}, and calls of what has none are refused. See: openclaw billing prices; add others to OPENCLAW_PRICES_FILE.`,
    );
  }
  return {
    ...(image === undefined ? {} : { image }),
    ...(modelBasic === undefined ? {} : { basic: modelBasic }),
    ...(modelPlus === undefined ? {} : { plus: modelPlus }),
  };
}

function modelList(text: string): string[] {
  const models = text.split(",").map((model) => model.trim());
  if (models.every((model) => /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$/.test(model))) return [...new Set(models)];
  throw new InvalidArgumentError("It must be names of models, separated by commas, e.g. claude-haiku-4-5.");
}

/** The store with what this command's environment says of runtimes. */
export function withEnvironment(store: Store): Store & FleetContext {
  const { image, modelsByTier } = store.config.runtime;
  return { ...store, environment: { image, modelsByTier } };
}
