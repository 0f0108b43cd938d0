import assert from "node:assert/strict";
import test from "node:test";
import { loadConfig } from "./config.ts";
import { ConfigError } from "./errors.ts";

test("an empty environment gives a working local configuration", () => {
  const { config, secrets } = loadConfig({}, "/srv");
  assert.equal(config.dataDir, "/srv/.openclaw");
  assert.deepEqual(config.database, { kind: "embedded" });
  assert.deepEqual(config.http.publicListen, { host: "127.0.0.1", port: 8080 });
  assert.equal(config.runtime.driver, "local");
  assert.equal(config.router.rateLimitPerMinute, 30);
  assert.deepEqual(secrets.stripeWebhookSecrets, []);
});

test("all problems come at once, each naming its variable and what is expected", () => {
  const env = {
    DATABASE_URL: "mysql://db",
    OPENCLAW_PUBLIC_LISTEN: "8080",
    OPENCLAW_RUNTIME: "docker",
    OPENCLAW_TRIAL_DAYS: "-1",
    TELEGRAM_BOT_TOKEN: "hunter2",
    OPENCLAW_LOG_LEVEL: "loud",
  };
  assert.throws(
    () => loadConfig(env),
    (error) => {
      assert.ok(error instanceof ConfigError);
      assert.deepEqual(
        error.problems.map((problem) => problem.split(" ")[0]),
        [
          "OPENCLAW_RUNTIME",
          "DATABASE_URL",
          "OPENCLAW_PUBLIC_LISTEN",
          "OPENCLAW_TRIAL_DAYS",
          "OPENCLAW_LOG_LEVEL",
          "TELEGRAM_BOT_TOKEN",
        ],
      );
      for (const problem of error.problems) assert.match(problem, /expected /);
      return true;
    },
  );
});

test("an address that others are put behind has no trailing slash, and nothing that no path can follow", () => {
  const read = (text: string) => loadConfig({ OPENCLAW_PUBLIC_URL: text }).config.http.publicUrl;
  assert.equal(read("https://bot.example.com/assistants/"), "https://bot.example.com/assistants");
  for (const text of ["https://bot.example.com/?a=1", "https://bot.example.com/#top", "bot.example.com"])
    assert.throws(() => read(text), /OPENCLAW_PUBLIC_URL/, text);
});

test("a public address with a user or password in it is not taken, and not repeated", () => {
  for (const text of ["https://ann:hunter2@bot.example.com", "https://hunter2@bot.example.com"])
    assert.throws(
      () => loadConfig({ OPENCLAW_PUBLIC_URL: text }),
      (error) =>
        error instanceof ConfigError &&
        /OPENCLAW_PUBLIC_URL has a user or a password/.test(error.message) &&
        !error.message.includes("hunter2"),
      text,
    );
});

test("trial days are for every tier, or for each", () => {
  const read = (text: string) => loadConfig({ OPENCLAW_TRIAL_DAYS: text }).config.tenancy.trialDays;
  assert.deepEqual(read("7"), { basic: 7, plus: 7 });
  assert.deepEqual(read("basic=7, plus=14"), { basic: 7, plus: 14 });
  assert.deepEqual(read("plus=14"), { basic: 0, plus: 14 });
  for (const text of ["7,14", "gold=7", "366", "basic=", "7d"]) assert.throws(() => read(text), ConfigError, text);
});

test("a secret that looks wrong is not repeated in the message (F90)", () => {
  assert.throws(
    () =>
      loadConfig({
        TELEGRAM_BOT_TOKEN: "hunter2",
        DATABASE_URL: "mysql://user:hunter2@db",
        OPENCLAW_BACKUP_PASSPHRASE: "hunter2",
      }),
    (error) => error instanceof ConfigError && !error.message.includes("hunter2"),
  );
});

test("an empty variable counts as unset, so that no secret is ever empty (F92)", () => {
  const { secrets } = loadConfig({ TELEGRAM_WEBHOOK_SECRET: "", STRIPE_WEBHOOK_SECRET: " " });
  assert.equal(secrets.telegramWebhookSecret, undefined);
  assert.deepEqual(secrets.stripeWebhookSecrets, []);
});

test("several webhook secrets are accepted during a roll", () => {
  assert.deepEqual(loadConfig({ STRIPE_WEBHOOK_SECRET: "whsec_a, whsec_b" }).secrets.stripeWebhookSecrets, [
    "whsec_a",
    "whsec_b",
  ]);
});

test("a configuration can't be changed after it was read, and holds no secret", () => {
  const { config } = loadConfig({ STRIPE_SECRET_KEY: "sk_test_hunter2", ANTHROPIC_API_KEY: "hunter2" });
  assert.throws(() => Object.assign(config.http, { metricsToken: "x" }), TypeError);
  assert.equal(JSON.stringify(config).includes("hunter2"), false);
});

test("an IPv6 address and port 0 are fine to listen on", () => {
  assert.deepEqual(loadConfig({ OPENCLAW_PUBLIC_LISTEN: "[::1]:0" }).config.http.publicListen, {
    host: "::1",
    port: 0,
  });
});

test("a Key Vault is named or addressed, and secrets of Azure runtimes lie in one by default", () => {
  const vaultOf = (env: Record<string, string>) => loadConfig(env, "/srv").config.vault;
  assert.deepEqual(vaultOf({}), { kind: "file" });
  assert.deepEqual(vaultOf({ OPENCLAW_VAULT: "azure", AZURE_KEY_VAULT_NAME: "mine" }), {
    kind: "azure",
    url: "https://mine.vault.azure.net",
  });
  const sovereign = { ...AZURE, AZURE_KEY_VAULT_URL: "https://mine.vault.azure.cn/" };
  assert.deepEqual(vaultOf(sovereign), { kind: "azure", url: "https://mine.vault.azure.cn" });
  assert.throws(() => vaultOf({ OPENCLAW_VAULT: "azure" }), /AZURE_KEY_VAULT_NAME is not set/);
  assert.throws(() => vaultOf({ OPENCLAW_VAULT: "azure", AZURE_KEY_VAULT_URL: "http://plain" }), /AZURE_KEY_VAULT_URL/);
});

const AZURE = {
  AZURE_SUBSCRIPTION_ID: "11111111-2222-3333-4444-555555555555",
  AZURE_RESOURCE_GROUP: "openclaw",
  AZURE_LOCATION: "westeurope",
  AZURE_CONTAINER_ENV_ID:
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/openclaw/providers/Microsoft.App/managedEnvironments/env",
  AZURE_STORAGE_ACCOUNT: "openclawstate",
  AZURE_KEY_VAULT_NAME: "mine",
};

test("a subscription id means Azure, which needs to know where; what is missing is said at once", () => {
  const { runtime } = loadConfig(AZURE, "/srv").config;
  assert.ok(runtime.driver === "azure");
  assert.equal(runtime.azure.stamp.vaultUrl, "https://mine.vault.azure.net");
  assert.equal(runtime.azure.armCallsPerMinute, 60);
  const incomplete = { AZURE_SUBSCRIPTION_ID: "not-a-uuid", AZURE_LOCATION: "West Europe" };
  assert.throws(
    () => loadConfig(incomplete, "/srv"),
    (error) => {
      assert.ok(error instanceof ConfigError);
      for (const name of Object.keys(AZURE))
        assert.ok(
          error.problems.some((problem) => problem.startsWith(name)),
          name,
        );
      return true;
    },
  );
});

test("OAuth clients are named by their variables; Google's and Sautai's need both, Azure's is none", () => {
  const { config, secrets } = loadConfig(
    {
      GOOGLE_CLIENT_ID: "google-id",
      GOOGLE_CLIENT_SECRET: "google-secret",
      NOTICE_BOARD_CLIENT_ID: "public-id",
      AZURE_CLIENT_ID: "an-identity",
      ELSEWHERE_CLIENT_SECRET: "nothing to do with us",
      OPENCLAW_PROVIDERS_FILE: "providers.json",
    },
    "/srv",
  );
  assert.deepEqual(secrets.oauthClients, {
    google: { id: "google-id", secret: "google-secret" },
    "notice-board": { id: "public-id", secret: undefined },
  });
  assert.equal(config.providersFile, "/srv/providers.json");
  const half = { GOOGLE_CLIENT_ID: "id", SAUTAI_CLIENT_SECRET: "hush" };
  assert.throws(
    () => loadConfig(half),
    (error) => {
      assert.ok(error instanceof ConfigError);
      assert.equal(error.problems.length, 2);
      assert.match(error.problems[0] ?? "", /^GOOGLE_CLIENT_SECRET is not set, and GOOGLE_CLIENT_ID is/);
      assert.match(error.problems[1] ?? "", /^SAUTAI_CLIENT_ID is not set, and SAUTAI_CLIENT_SECRET is/);
      return !error.message.includes("hush");
    },
  );
});
