import assert from "node:assert/strict";
import test from "node:test";
import { runtimeName } from "../src/core/adapters/runtime/azure/names.ts";
import { until } from "../src/core/adapters/runtime/contract.ts";
import type { TenantId } from "../src/core/platform/ids.ts";
import { openAzureStage, write } from "./azure-stage.ts";
import { documentOf, expectCode } from "./command.ts";

const CHAT = 111_222_333;

test("a whole tenant lives on Azure: paid, healthy, spoken to, asleep, woken by a message, moved, gone (F10, F39, F41, F43, F54)", async (t) => {
  const stage = await openAzureStage(t, { containers: "sandbox" });
  const { arm, openclaw, telegram, vaults } = stage;
  const daemon = await stage.startDaemon();
  await daemon.saw("working");
  const owner = ["--email", "alice@example.com", "--chat", String(CHAT), "--billing-exempt"];
  expectCode(await openclaw("tenant", "create", "alice", ...owner), 0);
  expectCode(await openclaw("tenant", "provision", "alice", "--wait"), 0);
  const show = async () => documentOf(expectCode(await openclaw("tenant", "show", "alice", "--json"), 0));
  const stateOf = async () => (await show())["runtime"] as { state: string; image: string; specHash: string };
  const { id } = (await show()) as { id: TenantId };
  const said = (text: string) =>
    telegram.waitFor(({ method, params }) => method === "sendMessage" && String(params["text"]).includes(text), 30_000);

  await write(daemon, CHAT, "good morning");
  await said("good morning");
  // Again where it was woken: what it last did is written down some seconds late.
  await until(
    async () => {
      if ((await stateOf()).state === "asleep") return true;
      expectCode(await openclaw("tenant", "sleep", "alice"), 0);
      await stage.passQuietTime();
      return undefined;
    },
    "the runtime to sleep",
    60_000,
  );
  assert.deepEqual(Object.values(arm.state.replicas()), [0]);

  await write(daemon, CHAT, "are you there?");
  await said("are you there?");
  const before = await stateOf();
  expectCode(await openclaw("tenant", "update", "alice", "--tier", "plus"), 0);
  await write(daemon, CHAT, "and now?");
  await said("and now?");
  await until(async () => ((await stateOf()).specHash === before.specHash ? undefined : true), "the other tier");
  const app = arm.state.apps().find(({ name }) => name === runtimeName(id));
  assert.equal(app?.revisions.filter(({ active }) => active).length, 1);

  const { events } = documentOf(expectCode(await openclaw("tenant", "events", "alice", "--json"), 0));
  assert.ok(JSON.stringify(events).includes("app.apply"), "the journal tells of each step");
  expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "alice", "--wait"), 0);
  assert.deepEqual(arm.state.apps(), []);
  assert.deepEqual(
    vaults.flatMap((vault) => Object.keys(vault.values())),
    [],
  );
  assert.deepEqual(arm.violations, []);
  for (const line of daemon.output) assert.ok(!/Bearer |loopback-bot-token/.test(line), line);
});
