import assert from "node:assert/strict";
import test from "node:test";
import type { Provider } from "../adapters/oauth/oauth-provider.ts";
import { definitionOf, UNCALLED_CLIENT } from "../adapters/oauth/test-setup.ts";
import { addMs } from "../platform/clock.ts";
import type { ProviderId, TenantId } from "../platform/ids.ts";
import type { TenantStatus } from "../tenants/tenants.ts";
import type { Connection } from "./connection.ts";
import { viewConnection } from "./view.ts";

const NOW = new Date("2026-11-20T10:00:00Z");
const MINUTE_MS = 60_000;
const GMAIL = "gmail" as ProviderId;
const TENANT_ID = "00000000-0000-4000-8000-000000000001" as TenantId;

const definition = definitionOf(
  { url: "https://accounts.example.com" },
  { id: GMAIL, name: "Gmail", client: "google", scopes: ["mail", "email"], neededScopes: ["mail"] },
);
const provider: Provider = { definition, client: UNCALLED_CLIENT };
const clientTrouble = { provider: GMAIL, code: "invalid_client", since: NOW, probeAt: NOW };

/** Connected an hour ago, renewed just now, and well. */
const connection: Connection = {
  tenantId: TENANT_ID,
  provider: GMAIL,
  state: "active",
  reason: null,
  stateChangedAt: addMs(NOW, -60 * MINUTE_MS),
  grantId: "00000000-0000-4000-8000-000000000002",
  client: "google",
  accountSubject: "1234567890",
  accountEmail: "alice@example.com",
  scopes: ["email", "mail"],
  connectedAt: addMs(NOW, -60 * MINUTE_MS),
  secretVersion: "5",
  secretFence: 4,
  accessExpiresAt: addMs(NOW, 60 * MINUTE_MS),
  hasRefreshToken: true,
  waitUntil: null,
  refreshedAt: NOW,
  refreshAt: addMs(NOW, 45 * MINUTE_MS),
  triedAt: NOW,
  attempts: 0,
  trouble: null,
};

type Change = Partial<Connection> & {
  status?: TenantStatus;
  facts?: Partial<Pick<Parameters<typeof viewConnection>[0], "provider" | "clientTrouble" | "ending">>;
};

function view({ status = "active", facts = {}, ...change }: Change = {}) {
  const tenant = { id: TENANT_ID, slug: "alice", status };
  const viewed = { ...connection, ...change };
  const none = { clientTrouble: undefined, ending: undefined };
  return viewConnection({ connection: viewed, tenant, provider, ...none, ...facts, now: NOW });
}

const expiring = {
  refreshedAt: addMs(NOW, -55 * MINUTE_MS),
  accessExpiresAt: addMs(NOW, 5 * MINUTE_MS),
  refreshAt: NOW,
};

const CASES: [what: string, change: Change, expected: [state: string, code: string | null, words: RegExp]][] = [
  ["a connection that is well", {}, ["active", null, /^$/]],
  ["one that never expires", { accessExpiresAt: null, refreshAt: null }, ["active", null, /^$/]],
  [
    "one that failed and has time",
    { attempts: 1, trouble: "http_503" },
    ["active", "not_renewed", /last time .*\(http_503\).*by itself/],
  ],
  ["one that nobody renewed yet", expiring, ["expiring", "due", /due to be renewed.*is one running\?/]],
  [
    "one that can't be renewed",
    { ...expiring, attempts: 7, trouble: "timeout" },
    ["expiring", "not_renewed", /last 7 times .*\(timeout\)/],
  ],
  [
    "one without a refresh token",
    { hasRefreshToken: false },
    ["active", "not_renewable", /nothing to renew it with.*connect alice gmail/],
  ],
  [
    "one whose grant is dead",
    { state: "expired", reason: "grant_dead" },
    ["expired", "grant_dead", /withdrawn, or ended by the provider's rules.*openclaw integration connect alice gmail/],
  ],
  [
    "one whose person has to sign in again",
    { state: "expired", reason: "reauth_required" },
    ["expired", "reauth_required", /sign in again.*openclaw integration connect alice gmail/],
  ],
  [
    "one that could not be renewed when its access ended",
    { state: "expired", reason: "not_renewable" },
    ["expired", "not_renewable", /nothing to renew it with.*openclaw integration connect alice gmail/],
  ],
  [
    "one whose vault is out of reach",
    { attempts: 2, trouble: "vault_failed" },
    ["active", "not_renewed", /\(vault_failed\).*by itself; see: openclaw check/],
  ],
  [
    "one whose tokens no key opens",
    { attempts: 1, trouble: "vault_key_wrong" },
    ["active", "not_renewed", /the last time \(vault_key_wrong\).*no key opens: openclaw vault rotate-key --dry-run/],
  ],
  [
    "one whose tokens are gone",
    { attempts: 2, trouble: "tokens_missing" },
    ["active", "tokens_missing", /not in the vault.*openclaw check.*openclaw integration connect alice gmail/],
  ],
  [
    "one that expired for a reason of later days",
    { state: "expired", reason: "eclipse" },
    ["expired", "eclipse", /access has ended/],
  ],
  [
    "one whose client is refused",
    { state: "error", reason: "client_refused", trouble: "invalid_client" },
    ["error", "client_refused", /our OAuth client \(invalid_client\).*openclaw check/],
  ],
  [
    "one that waits because another's client was refused",
    { facts: { clientTrouble } },
    ["active", "client_refused", /our OAuth client \(invalid_client\)/],
  ],
  [
    "one without a client",
    { facts: { provider: { ...provider, client: undefined } } },
    ["active", "client_missing", /no OAuth client.*Gmail.*integration providers/],
  ],
  [
    "one of a provider that is no more",
    { facts: { provider: undefined } },
    ["active", "provider_unknown", /no provider gmail.*OPENCLAW_PROVIDERS_FILE/],
  ],
  [
    "one that was disconnected",
    { state: "revoked", reason: "disconnected", refreshAt: null },
    ["revoked", "disconnected", /^it was disconnected to have it back: .*connect alice gmail$/],
  ],
  [
    "one whose provider is still to be told",
    { state: "revoked", reason: "disconnected", facts: { ending: { attempts: 3 } } },
    ["revoked", "disconnected", /still to be told.*tried 3 times/],
  ],
  [
    "one of a tenant that is being removed",
    { status: "deprovisioning" },
    ["active", "tenant_gone", /is deprovisioning: .*tenant restore alice/],
  ],
  [
    "an expired one of a tenant that was removed",
    { status: "deleted", state: "expired", reason: "grant_dead" },
    ["expired", "tenant_gone", /is deleted: .*tenant restore alice/],
  ],
];
for (const [what, change, [state, code, words]] of CASES) {
  test(`${what} is ${state}, ${code ?? "with nothing to say"}`, () => {
    const found = view(change);
    assert.deepEqual([found.state, found.code], [state, code]);
    assert.match([found.reason, found.remedy].filter((text) => text !== null).join(" "), words);
    assert.equal(found.reason === null, found.remedy === null);
  });
}

test("a connection at rest is not going to be renewed; a disconnected one does not rest, whatever its tenant is", () => {
  assert.deepEqual([view().atRest, view().nextRefreshAt], [false, connection.refreshAt]);
  const resting = view({ status: "deleted" });
  assert.deepEqual([resting.atRest, resting.nextRefreshAt], [true, null]);
  assert.equal(view({ status: "deleted", state: "revoked" }).atRest, false);
});

test("what was not granted is named, and what is left to be told to the provider", () => {
  assert.deepEqual(view().missingScopes, []);
  assert.deepEqual(view({ scopes: ["mail"] }).missingScopes, ["email"]);
  assert.equal(view().revocation, null);
  assert.equal(view({ state: "revoked", facts: { ending: { attempts: 0 } } }).revocation, "pending");
});

test("nothing that leads to the tokens is in it", () => {
  const text = JSON.stringify(view());
  for (const secret of [connection.grantId, connection.accountSubject]) assert.ok(!text.includes(String(secret)));
  assert.ok(!/secret|version|fence|lease/i.test(text), text);
});
