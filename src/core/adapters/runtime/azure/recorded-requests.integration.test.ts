import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import test from "node:test";
import type { TenantId } from "../../../platform/ids.ts";
import { packageRoot } from "../../../platform/package-root.ts";
import { readInstallation } from "../../../platform/stamps.ts";
import type { ArmCall } from "../../../testing/fakes/azure/arm-server.ts";
import { runtimeName } from "./names.ts";
import { type AzureBench, setUpAzure } from "./test-setup.ts";

const TENANT = "01890a5d-ac96-774b-bcce-b302099a8057" as TenantId;
const FILE = path.join(packageRoot(), "docs", "azure-requests.md");
const RECORD =
  "OPENCLAW_TEST_RECORD=1 npm test -- src/core/adapters/runtime/azure/recorded-requests.integration.test.ts";

const PREFACE = `# What Azure is sent

Every request to Azure Resource Manager in the life of one tenant, the first on its stamp, as the loopback Azure of the tests received
them and found them valid against the public descriptions of the pinned versions. A test fails when anything of it changes; then read
the difference, and if it is meant, record anew:

    ${RECORD}

What differs from run to run stands in braces. Looks at the same thing that follow each other are shown once. Secrets go to the Key
Vault and are not here: an app is given references to them.
`;

/** What the control plane does with a runtime, and what comes of it, in order. */
async function live({ openDriver, seedSecrets, spec }: AzureBench, phase: (title: string) => void): Promise<void> {
  const driver = openDriver();
  await seedSecrets(TENANT);
  phase("Provisioning");
  assert.equal((await driver.ensure(spec(TENANT, 1))).state, "running");
  phase("Nothing to do");
  assert.equal((await driver.ensure(spec(TENANT, 1))).state, "running");
  phase("An update to another image");
  assert.equal((await driver.ensure(spec(TENANT, 2))).state, "running");
  phase("Sleep");
  assert.equal((await driver.sleep(TENANT)).state, "asleep");
  phase("An update in its sleep");
  assert.equal((await driver.ensure(spec(TENANT, 3))).state, "asleep");
  phase("Wake, on what it was updated to");
  assert.equal((await driver.wake(TENANT)).state, "running");
  phase("A sweep");
  assert.equal((await driver.list({ urgency: "sweep" })).length, 1);
  phase("Removal");
  await driver.remove(TENANT);
  phase("The purge of its state");
  await driver.erase(TENANT);
}

test("what Azure is sent in the life of a tenant is what was recorded, and valid (F29, F31, F38, F43, F94)", async (t) => {
  const bench = await setUpAzure(t);
  const { arm, database } = bench;
  const starts: { title: string; at: number }[] = [];
  const principals = new Set<string>();
  await live(bench, (title) => {
    starts.push({ title, at: arm.calls.length });
    for (const { name, principalId } of arm.state.identities())
      if (name === runtimeName(TENANT)) principals.add(principalId);
  });
  assert.deepEqual(arm.violations, []);
  assert.ok(arm.calls.every(({ apiVersion }) => apiVersion !== undefined));
  const normalise = normaliserOf(bench, {
    installation: await readInstallation(database.db),
    principals: [...principals],
  });
  const sections = starts.map(({ title, at }, index) => {
    const calls = arm.calls.slice(at, starts[index + 1]?.at);
    return `## ${title}\n\n${sectionOf(calls.map((one) => normalise(shown(one))))}`;
  });
  const text = [PREFACE, ...sections].join("\n");
  if (process.env["OPENCLAW_TEST_RECORD"] === "1") await writeFile(FILE, text);
  // By lines, so that what differs is shown.
  assert.deepEqual(text.split("\n"), (await readFile(FILE, "utf8")).split("\n"));
});

function shown({ method, path: at, query, body }: ArmCall): string {
  const line = `${method} ${at}?${decodeURIComponent(query.toString()).replaceAll("+", " ")}`;
  return body === undefined ? line : `${line}\n\n${written(body)}`;
}

/** Indented, with what holds no more than plain values on one line. */
function written(body: unknown): string {
  return JSON.stringify(body, null, 2).replaceAll(/([[{])\n\s+([^[\]{}]*?)\n\s+[\]}]/g, (_, open, within) => {
    const line = String(within).replaceAll(/\n\s+/g, " ");
    return open === "{" ? `{ ${line} }` : `[${line}]`;
  });
}

function sectionOf(requests: readonly string[]): string {
  if (requests.length === 0) return "Nothing.\n";
  const distinct = requests.filter((one, index) => one !== requests[index - 1]);
  const blocks: string[] = [];
  for (const [index, one] of distinct.entries()) {
    const isBare = (request: string | undefined): boolean => request !== undefined && !request.includes("\n");
    if (isBare(one) && isBare(distinct[index - 1])) blocks.push(`${blocks.pop()}\n${one}`);
    else blocks.push(one);
  }
  return blocks.map((block) => `\`\`\`http\n${block}\n\`\`\`\n`).join("\n");
}

/** Puts a name in braces for whatever is another in each run. */
function normaliserOf(
  { arm, stamps, vaults }: AzureBench,
  { installation, principals }: { installation: string; principals: readonly string[] },
): (text: string) => string {
  const names = new Map<string, string>([
    [installation, "{installation}"],
    ...principals.map((principal) => [principal, "{principal}"] as const),
    ...stamps.map(({ subscriptionId }) => [subscriptionId, "{subscription}"] as const),
    ...vaults.map(({ url }, index) => [url, `https://${stamps[index]?.vaultName}.vault.azure.net`] as const),
    [arm.url, "https://management.azure.com"],
  ]);
  const patterns: readonly [RegExp, string][] = [
    [/(\/roleAssignments\/)[0-9a-f-]{36}/g, "$1{role-assignment}"],
    [/&t=\d+&c=\S+/g, "&{ticket}"],
    [/(\/executions\/)[\w-]+/g, "$1{execution}"],
    [/(\/\w*operation\w*\/)[0-9a-f-]{36}/gi, "$1{operation}"],
  ];
  return (text) => {
    const named = [...names].reduce((so, [value, name]) => so.replaceAll(value, name), text);
    return patterns.reduce((so, [pattern, name]) => so.replaceAll(pattern, name), named);
  };
}
