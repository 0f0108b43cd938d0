import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import test from "node:test";
import { createTestDatabase } from "../src/core/testing/database.ts";
import { LOOPBACK_CERTIFICATE } from "../src/core/testing/fakes/azure/certificate.ts";
import { startIdentityServer } from "../src/core/testing/fakes/azure/identity-server.ts";
import { startKeyVault } from "../src/core/testing/fakes/azure/key-vault.ts";
import { startTelegramServer } from "../src/core/testing/fakes/telegram-server.ts";
import { documentOf, expectCode, openFolder, temporaryFolder } from "./command.ts";
import { startDaemon } from "./daemon-process.ts";

const BOT_TOKEN = "4242:loopback-bot-token";

test("a tenant's secrets lie in the Key Vault while it lives, are gone with it, and come anew when it returns (F46, F97)", async (t) => {
  await using database = await createTestDatabase();
  const identity = await startIdentityServer();
  const vault = await startKeyVault(identity);
  const telegram = await startTelegramServer({ token: BOT_TOKEN });
  t.after(() => Promise.all([vault.close(), identity.close(), telegram.close()]));
  const folder = await temporaryFolder(t);
  const certificate = path.join(folder, "loopback.pem");
  await writeFile(certificate, LOOPBACK_CERTIFICATE);
  const env = {
    DATABASE_URL: database.url,
    OPENCLAW_DATA_DIR: path.join(folder, "data"),
    OPENCLAW_VAULT: "azure",
    AZURE_KEY_VAULT_URL: vault.url,
    NODE_EXTRA_CA_CERTS: certificate,
    TELEGRAM_API_ROOT: telegram.url,
    TELEGRAM_BOT_TOKEN: BOT_TOKEN,
    ...identity.env,
  };
  const daemon = await startDaemon(t, env);
  await daemon.saw("working");
  const openclaw = await openFolder(t, env);
  expectCode(await openclaw("tenant", "create", "alice", "--email", "alice@example.com", "--billing-exempt"), 0);
  expectCode(await openclaw("tenant", "provision", "alice", "--wait"), 0);
  const { id } = documentOf(expectCode(await openclaw("tenant", "show", "alice", "--json"), 0));
  const names = ["gateway-token", "model-key", "telegram-token", "webhook-secret"].map(
    (key) => `tenant-${String(id)}-${key}`,
  );
  const first = vault.values();
  assert.deepEqual(Object.keys(first).toSorted(), names);

  expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "alice", "--wait"), 0);
  assert.deepEqual(vault.values(), {});
  assert.deepEqual(vault.deleted().toSorted(), names);

  expectCode(await openclaw("tenant", "restore", "alice", "--wait"), 0);
  // Under names of their own: nobody can be bound to what was deleted.
  const second = vault.values();
  assert.deepEqual(
    Object.keys(second).toSorted(),
    names.map((name) => `${name}-g2`),
  );
  assert.ok(Object.values(second).every((value) => !Object.values(first).includes(value)));
  for (const line of daemon.output) for (const value of Object.values(second)) assert.ok(!line.includes(value));
  expectCode(await openclaw("tenant", "deprovision", "alice", "--confirm", "alice", "--wait"), 0);
});
