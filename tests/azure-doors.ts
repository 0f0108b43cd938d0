import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import Stripe from "stripe";
import { groupId, runtimeName, STATE_JOB } from "../src/core/adapters/runtime/azure/names.ts";
import { TENANT_SECRETS, type TenantSecret, tenantSecretName } from "../src/core/adapters/vault/vault.ts";
import type { Stamp } from "../src/core/platform/config.ts";
import type { TenantId } from "../src/core/platform/ids.ts";
import { ownToken } from "../src/core/testing/fakes/azure/arm/test-setup.ts";
import type { AzureStage } from "./azure-stage.ts";
import { call, type Daemon } from "./daemon-process.ts";

export const VAULT_AUDIENCE = "https://vault.azure.net";
export const ARM_AUDIENCE = "https://management.azure.com";

/** What is presented at a door, and whose it is. */
export type Credential = {
  holder: string;
  kind: TenantSecret | "vault-identity" | "arm-identity" | "metrics-token" | "telegram-secret" | "stripe-secret";
  value: string;
};

/** How a door is knocked at with a credential, and whom it is meant to let in. */
export type Door = {
  name: string;
  of: string;
  opensTo: Credential["kind"] | "nobody";
  knock(credential: string): Promise<{ status: number; text: string }>;
};

export type Tenant = { slug: string; id: TenantId; stamp: Stamp; principalId: string; address: string };

type Stage = AzureStage & { daemon: Daemon };

/** Every credential that a runtime has, or could get hold of. */
export function credentialsOf({ vaults, stamps, identity }: Stage, tenant: Tenant): Credential[] {
  const { slug: holder, id, principalId } = tenant;
  const values = vaults[stamps.indexOf(tenant.stamp)]?.values() ?? {};
  return [
    ...TENANT_SECRETS.map((kind): Credential => {
      const value = values[tenantSecretName(id, kind, 1)];
      assert.ok(value, `${holder} has a ${kind}`);
      return { holder, kind, value };
    }),
    { holder, kind: "vault-identity", value: identity.issue(principalId, VAULT_AUDIENCE) },
    { holder, kind: "arm-identity", value: identity.issue(principalId, ARM_AUDIENCE) },
  ];
}

/** What stands open to the control plane itself: the doors are there, and open. */
export function controlPlaneCredentials({ identity }: Stage): Credential[] {
  const holder = "control plane";
  return [
    { holder, kind: "vault-identity", value: ownToken(identity, VAULT_AUDIENCE) },
    { holder, kind: "arm-identity", value: ownToken(identity, ARM_AUDIENCE) },
  ];
}

/** Those of the daemon's gateways, where tenants are told apart by the path. */
export function gatewayDoors({ daemon }: Stage, { slug: of, id }: Pick<Tenant, "slug" | "id">): Door[] {
  const at = `${daemon.internalUrl}/runtime/${id}`;
  const body = JSON.stringify({
    model: "claude-haiku-4-5",
    max_tokens: 16,
    messages: [{ role: "user", content: "hello" }],
  });
  const askModel = (headers: Record<string, string>) =>
    call(`${at}/model/v1/messages`, {
      method: "POST",
      headers: { "content-type": "application/json", "anthropic-version": "2023-06-01", ...headers },
      body,
    });
  const bot = (path: string, name: string): Door => ({
    name,
    of,
    opensTo: "telegram-token",
    knock: (token) => call(`${at}/telegram/${path.replace("*", token)}`),
  });
  const model = (name: string, headers: (key: string) => Record<string, string>): Door => ({
    name,
    of,
    opensTo: "model-key",
    knock: (key) => askModel(headers(key)),
  });
  return [
    bot("bot*/getMe", "Bot API"),
    bot(`file/bot*/photos/${of}.jpg`, "file"),
    model("model, bearer", (key) => ({ authorization: `Bearer ${key}` })),
    model("model, x-api-key", (key) => ({ "x-api-key": key })),
  ];
}

/** The runtime's own, behind its ingress. */
export function webhookDoor({ slug: of, address }: Tenant): Door {
  return {
    name: "webhook",
    of,
    opensTo: "webhook-secret",
    knock: (secret) =>
      call(`${address}/telegram-webhook`, {
        method: "POST",
        headers: { "x-telegram-bot-api-secret-token": secret, "content-type": "application/json" },
        body: JSON.stringify({ update_id: 1 }),
      }),
  };
}

/** In the vault its identity may read its own secrets, and do nothing else. */
export function vaultDoors({ stamp, slug: of, id }: Tenant): Door[] {
  const door = (opensTo: Door["opensTo"], method: "GET" | "PUT" | "DELETE", path: string): Door => ({
    name: `${method} ${path}`,
    of,
    opensTo,
    knock: (token) => send(method, `${stamp.vaultUrl}/${path}?api-version=7.6`, token, { value: "x" }),
  });
  return [
    door("nobody", "GET", "secrets"),
    ...TENANT_SECRETS.map((secret) => `secrets/${tenantSecretName(id, secret, 1)}`).flatMap((path) => [
      door("vault-identity", "GET", path),
      door("nobody", "PUT", path),
      door("nobody", "DELETE", path),
    ]),
  ];
}

/** Its resources: no runtime may so much as look at them, not even at its own. */
export function armDoors({ arm }: Stage, { stamp, slug: of, id, principalId }: Tenant): Door[] {
  const name = runtimeName(id);
  const group = groupId(stamp);
  const app = `${group}/providers/Microsoft.App/containerApps/${name}`;
  const identity = `${group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/${name}`;
  const roles = arm.state.roleAssignments().filter((role) => role.principalId === principalId);
  const door = (method: "GET" | "PUT" | "POST" | "DELETE", path: string, version: string): Door => ({
    name: `${method} ${path.replace(group, "…")}`,
    of,
    opensTo: "nobody",
    knock: (token) => send(method, `${arm.url}${path}?api-version=${version}`, token, { location: stamp.location }),
  });
  const all = (path: string, version: string) => [
    door("GET", path, version),
    door("PUT", path, version),
    door("DELETE", path, version),
  ];
  return [
    ...all(app, "2025-07-01"),
    door("POST", `${app}/listSecrets`, "2025-07-01"),
    door("GET", `${app}/revisions`, "2025-07-01"),
    door("GET", `${group}/providers/Microsoft.App/containerApps`, "2025-07-01"),
    ...all(identity, "2024-11-30"),
    ...roles.flatMap((role) => all(role.id, "2022-04-01")),
    door("PUT", `${group}/providers/Microsoft.Authorization/roleAssignments/${randomUUID()}`, "2022-04-01"),
    door("GET", `${group}/providers/Microsoft.Authorization/roleAssignments`, "2022-04-01"),
    door("POST", `${group}/providers/Microsoft.App/jobs/${STATE_JOB}/start`, "2025-07-01"),
  ];
}

/** The control plane's own, which are nothing for a runtime. */
export function controlPlaneDoors({ daemon }: Stage): Door[] {
  const of = "control plane";
  return [
    {
      name: "metrics",
      of,
      opensTo: "metrics-token",
      knock: (token) => call(`${daemon.internalUrl}/metrics`, { headers: { authorization: `Bearer ${token}` } }),
    },
    {
      name: "Telegram's webhook",
      of,
      opensTo: "telegram-secret",
      knock: (secret) =>
        call(`${daemon.publicUrl}/webhooks/telegram`, {
          method: "POST",
          headers: { "x-telegram-bot-api-secret-token": secret, "content-type": "application/json" },
          body: JSON.stringify({ update_id: 1 }),
        }),
    },
    {
      name: "Stripe's webhook",
      of,
      opensTo: "stripe-secret",
      knock(secret) {
        const payload = '{"id":"evt_1","type":"customer.created","created":1763632800,"data":{"object":{}}}';
        const signature = Stripe.webhooks.generateTestHeaderString({ payload, secret });
        const headers = { "stripe-signature": signature, "content-type": "application/json" };
        return call(`${daemon.publicUrl}/webhooks/stripe`, { method: "POST", headers, body: payload });
      },
    },
  ];
}

function send(method: "GET" | "PUT" | "POST" | "DELETE", url: string, token: string, body: unknown) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  return call(url, { method, headers, ...(method === "PUT" ? { body: JSON.stringify(body) } : {}) });
}
