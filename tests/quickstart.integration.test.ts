import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { documentOf, expectCode, openFolder } from "./command.ts";

/** Whatever of these is used fails: nobody listens there, and the values are no accounts. */
const REAL_ACCOUNTS = {
  DATABASE_URL: "postgres://real@127.0.0.1:1/real",
  REDIS_URL: "redis://127.0.0.1:1",
  STRIPE_SECRET_KEY: "not-a-key",
  STRIPE_WEBHOOK_SECRET: "whsec_real",
  STRIPE_API_BASE: "http://127.0.0.1:1",
  TELEGRAM_BOT_TOKEN: "not-a-token",
  TELEGRAM_WEBHOOK_SECRET: "real secret, not even well-formed",
  TELEGRAM_API_ROOT: "http://127.0.0.1:1",
  ANTHROPIC_API_KEY: "sk-ant-real",
  ANTHROPIC_BASE_URL: "http://127.0.0.1:1",
  OPENAI_API_KEY: "sk-real",
  OPENAI_BASE_URL: "http://127.0.0.1:1",
  AZURE_SUBSCRIPTION_ID: "00000000-0000-0000-0000-000000000000",
  AZURE_KEY_VAULT_NAME: "real",
  GOOGLE_CLIENT_ID: "real",
  GOOGLE_CLIENT_SECRET: "real",
  OPENCLAW_RUNTIME: "azure",
  OPENCLAW_VAULT: "azure",
  OPENCLAW_RUNTIME_BIN: "/nonexistent/openclaw",
};

test("quickstart works twice in a row, touches no real account, and leaves no process behind", async (t) => {
  const dataDir = await mkdtemp(path.join(tmpdir(), "openclaw-quickstart-"));
  t.after(() => rm(dataDir, { recursive: true, force: true }));
  const openclaw = await openFolder(t, { ...REAL_ACCOUNTS, OPENCLAW_DATA_DIR: dataDir });
  const seen = new Set<unknown>();
  for (let run = 1; run <= 2; run++) {
    const document = documentOf(expectCode(await openclaw("quickstart", "--exit", "--json"), 0));
    assert.equal(document["ok"], true);
    assert.match(String(document["reply"]), /Hello!/);
    assert.ok(Array.isArray(document["steps"]) && document["steps"].length > 0);
    seen.add(document["tenant"]);
    assert.deepEqual(await processesUsing(dataDir), [], `after run ${run}`);
  }
  assert.equal(seen.size, 1);
});

/** Processes that work in the folder or were told of it, from the system. */
async function processesUsing(folder: string): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^[0-9]+$/.test(name) && Number(name) !== process.pid);
  const found = await Promise.all(pids.map((pid) => mentions(pid, folder)));
  return found.filter((line) => line !== undefined);
}

async function mentions(pid: string, folder: string): Promise<string | undefined> {
  try {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8");
    const environment = await readFile(`/proc/${pid}/environ`, "utf8");
    return `${command}${environment}`.includes(folder) ? `${pid} ${command.replaceAll("\0", " ")}` : undefined;
  } catch (error) {
    // Ended meanwhile, or somebody else's.
    const codes = ["ENOENT", "ESRCH", "EACCES"];
    if (error instanceof Error && "code" in error && codes.includes(String(error.code))) return undefined;
    throw error;
  }
}
