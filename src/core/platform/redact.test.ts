import assert from "node:assert/strict";
import test from "node:test";
import { redactText } from "./redact.ts";

const SECRET = "hunter2-hunter2";
const WEB_TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";

for (const told of [
  `https://account.blob.core.windows.net/share?se=2026&sig=${SECRET}%3D`,
  `see "https://host.example/operations/1?t=${SECRET}" for more`,
  `Authorization: Bearer ${SECRET}`,
  `the token ${WEB_TOKEN} has expired`,
  `AccountKey=${SECRET};EndpointSuffix=core.windows.net`,
  `{"password": "${SECRET}"}`,
  `client_secret=${SECRET}&grant_type=x`,
  `api-key: ${SECRET}`,
]) {
  test(`of ${told.slice(0, 28)}… nothing secret is left`, () => {
    const left = redactText(told);
    assert.doesNotMatch(left, /hunter2|eyJ/);
    assert.match(left, /\[redacted\]/);
  });
}

test("what an operator needs stays", () => {
  for (const told of [
    "Invalid ContainerApp name 'x--y'. A name must not have '--'.",
    "/subscriptions/1/resourceGroups/g/providers/Microsoft.App/containerApps/a is locked",
    "Unable to get value using Managed identity /subscriptions/1/x for secret t-1-gateway-token. Error: unable to fetch secret 't-1-gateway-token' using Managed identity",
    "Field 'configuration.secrets' is invalid: 'Invalid value: \"gateway-token\": Unable to get value",
    "See https://aka.ms/docs-principaltype",
  ])
    assert.equal(redactText(told), told);
});
