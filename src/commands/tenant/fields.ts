import { type Command, Option } from "commander";
import { FieldsError } from "../../core/platform/errors.ts";
import { collect, jsonObject } from "./options.ts";

/** Options whose names differ from those of the fields that they set. */
const FIELDS: Record<string, string> = {
  name: "displayName",
  chat: "telegramChatId",
  user: "telegramUserId",
  username: "telegramUsername",
  tag: "tags",
  stamp: "stampId",
};

/** Adds the options for what a tenant is created with and may be changed to. */
export function withFieldOptions(command: Command): Command {
  return command
    .option("--name <text>", "display name; a new tenant's is its slug otherwise")
    .addOption(new Option("--tier <tier>", "what the tenant pays for").choices(["basic", "plus"]))
    .option("--language <tag>", "such as en or pt-BR")
    .option("--time-zone <zone>", "such as Europe/Berlin")
    .option("--preferences <json>", "all of them, as a JSON object", jsonObject)
    .option("--tag <tag>", "all of them, the option repeated", collect)
    .option("--billing-exempt", "runs without paying")
    .option("--budget-exempt", "no model budget applies");
}

/** The fields that options set. */
export function fieldsOf(options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).map(([option, value]) => [FIELDS[option] ?? option, value]));
}

/** Runs what takes a tenant's fields, and names the options instead of the fields when some are refused. */
export async function namingOptions<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof FieldsError)) throw error;
    const problems = error.problems.map(({ field, problem }) => ({ field: optionOf(field), problem }));
    throw new FieldsError(error.code, problems, { cause: error });
  }
}

function optionOf(field: string): string {
  if (field === "slug") return "<slug>";
  const option = Object.keys(FIELDS).find((name) => FIELDS[name] === field) ?? field;
  return `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
