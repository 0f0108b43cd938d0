import { spawn } from "node:child_process";
import { once } from "node:events";
import { z } from "zod";
import { ConfigError } from "../../../platform/errors.ts";
import type { Owner } from "./files.ts";
import type { Program } from "./program.ts";

const TIMEOUT_MS = 60_000;

const issueSchema = z.union([z.string(), z.object({ path: z.string().optional(), message: z.string() })]);
const verdictSchema = z.object({
  valid: z.boolean(),
  issues: z.array(issueSchema).default([]),
  warnings: z.array(issueSchema).default([]),
});

/**
 * Asks the real binary about the configuration that `env` points to. Warnings count as errors: a missing variable is but a warning to it.
 * @throws ConfigError with every issue it names.
 */
export async function validateWithBinary(
  program: Program,
  place: { slug: string; cwd: string; env: Readonly<Record<string, string>>; owner: Owner | undefined },
): Promise<void> {
  const { code, stdout, stderr } = await run(program, place);
  const verdict = verdictSchema.safeParse(parseJson(stdout));
  if (!verdict.success) {
    const detail = (stderr || stdout).trim().slice(-500);
    throw new ConfigError("runtime_config_unchecked", [
      `${program.args[0] ?? program.command} could not check the configuration of ${place.slug} (exit ${code}): ${detail}`,
    ]);
  }
  const { valid, issues, warnings } = verdict.data;
  if (valid && issues.length + warnings.length === 0) return;
  const problems = [...issues, ...warnings].map((issue) =>
    typeof issue === "string" ? issue : `${issue.path ?? "configuration"}: ${issue.message}`,
  );
  throw new ConfigError(
    "runtime_config_invalid",
    problems.length > 0 ? problems : [`The configuration of ${place.slug} is invalid.`],
  );
}

async function run(
  program: Program,
  place: { cwd: string; env: Readonly<Record<string, string>>; owner: Owner | undefined },
) {
  const child = spawn(program.command, [...program.args, "config", "validate", "--json"], {
    cwd: place.cwd,
    env: { ...place.env },
    ...place.owner,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: TIMEOUT_MS,
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [code]: (number | null)[] = await once(child, "close");
  return { code: code ?? null, stdout, stderr };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // Anything but JSON is told to the operator as it is.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
