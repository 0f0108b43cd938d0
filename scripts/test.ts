/** `npm test [-- files, folders or node's options]`: all tests, with a PostgreSQL and a Redis of their own, and a browser where there is one. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, globSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { packageRoot } from "../src/core/platform/package-root.ts";
import { startRedis } from "./redis-server.ts";
import { withTestCluster } from "./test-cluster.ts";

/** For a whole file: one that hangs fails, instead of holding up the run for good. */
const FILE_TIMEOUT_MS = 300_000;

const interrupt = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => interrupt.abort(name));
process.chdir(packageRoot());

const built = await run(["scripts/build.ts"], {});
process.exitCode = built === 0 ? await withTestCluster(runTests) : built;
if (interrupt.signal.aborted) process.exitCode = 130;

async function runTests({ adminUrl, template }: { adminUrl: string; template: string }): Promise<number> {
  const redis = await startRedis();
  const chromium = findProgram(["chromium", "chromium-browser", "google-chrome"]);
  try {
    if (redis === undefined)
      console.error("*** No redis-server on PATH: the tests against Redis (*.redis.test.ts) are left out. ***");
    if (chromium === undefined)
      console.error("*** No chromium on PATH: the tests in a browser (*.browser.test.ts) are left out. ***");
    const options = process.argv.slice(2).filter((argument) => argument.startsWith("-"));
    const files = findFiles(
      process.argv.slice(2).filter((argument) => !argument.startsWith("-")),
      [...(redis === undefined ? [".redis.test.ts"] : []), ...(chromium === undefined ? [".browser.test.ts"] : [])],
    );
    if (files.length === 0) {
      console.error("No test file matches.");
      return 1;
    }
    const loader = files.some((file) => file.endsWith(".tsx")) ? ["--import", "tsx"] : [];
    const reporter = options.some((option) => option.startsWith("--test-reporter")) ? [] : ["--test-reporter=spec"];
    return await run(
      [
        ...loader,
        "--test",
        `--test-concurrency=${availableParallelism() + 1}`,
        `--test-timeout=${FILE_TIMEOUT_MS}`,
        ...reporter,
        ...options,
        ...files,
      ],
      {
        OPENCLAW_TEST_DATABASE_URL: adminUrl,
        OPENCLAW_TEST_TEMPLATE: template,
        ...(redis === undefined ? {} : { OPENCLAW_TEST_REDIS_URL: redis.url }),
        ...(chromium === undefined ? {} : { OPENCLAW_TEST_CHROMIUM: chromium }),
      },
    );
  } finally {
    await redis?.stop();
  }
}

function findFiles(wanted: readonly string[], leftOut: readonly string[]): string[] {
  const patterns = wanted.length > 0 ? wanted.map(toPattern) : ["src/**/*.test.{ts,tsx}", "tests/**/*.test.{ts,tsx}"];
  return globSync(patterns)
    .filter((file) => !leftOut.some((ending) => file.endsWith(ending)))
    .sort();
}

function toPattern(wanted: string): string {
  return statSync(wanted, { throwIfNoEntry: false })?.isDirectory() ? `${wanted}/**/*.test.{ts,tsx}` : wanted;
}

/** The first of them that is on PATH. */
function findProgram(names: readonly string[]): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(path.delimiter).filter((folder) => folder !== "");
  return names.flatMap((name) => folders.map((folder) => path.join(folder, name))).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    // Not there, or not for us: the next place is looked at.
    return false;
  }
}

/** Runs Node to its end; its exit code. An interrupted child is given time to clean up. */
async function run(args: readonly string[], variables: Record<string, string>): Promise<number> {
  if (interrupt.signal.aborted) return 130;
  const child = spawn(process.execPath, args, { stdio: "inherit", env: { ...process.env, ...variables } });
  const stop = () => child.kill("SIGTERM");
  interrupt.signal.addEventListener("abort", stop);
  try {
    const [code] = await once(child, "exit");
    return typeof code === "number" ? code : 1;
  } finally {
    interrupt.signal.removeEventListener("abort", stop);
  }
}
