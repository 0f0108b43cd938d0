import assert from "node:assert/strict";
import { test } from "node:test";
import { definitionOf } from "../core/adapters/oauth/test-setup.ts";
import { connectedPage, offerPage, refusalPage } from "./oauth-texts.ts";

const provider = definitionOf({ url: "https://accounts.example" }, { name: "<Mail>", access: ["read & write"] });
const scope = "https://www.googleapis.com/auth/gmail.modify";

const REFUSALS: Parameters<typeof refusalPage>[0][] = [
  { kind: "unknown-provider" },
  { kind: "not-configured", provider },
  { kind: "link-unknown" },
  { kind: "link-expired" },
  { kind: "link-used" },
  { kind: "link-replaced" },
  { kind: "link-ended" },
  { kind: "tenant-gone" },
  { kind: "crowded" },
  { kind: "state-unknown" },
  { kind: "state-expired" },
  { kind: "state-used" },
  { kind: "other-provider" },
  { kind: "other-browser" },
  { kind: "foreign", code: "foreign_answer" },
  { kind: "overtaken" },
  { kind: "denied", provider, code: "access_denied" },
  { kind: "too-late", provider, code: "invalid_grant" },
  { kind: "client-refused", provider, code: "invalid_client" },
  { kind: "unavailable", provider, code: "server_error" },
  { kind: "not-lasting", provider },
  { kind: "scopes-missing", provider, missing: [scope] },
  { kind: "cross-site" },
  { kind: "malformed" },
  { kind: "failed", requestId: "0000-1111" },
];

test("every refusal says in words what happened and what to do, and no code of anybody's", () => {
  const titles = new Set<string>();
  for (const refusal of REFUSALS) {
    const { status, html } = refusalPage(refusal);
    assert.ok(status >= 400 && status < 600, refusal.kind);
    const [, title = ""] = /<h1>(.*?)<\/h1>/s.exec(html) ?? [];
    titles.add(title);
    assert.ok(!title.includes("<"), title);
    const paragraphs = html.match(/<p[ >]/g) ?? [];
    assert.ok(paragraphs.length >= 2, `${refusal.kind} says what to do`);
    assert.doesNotMatch(html, /undefined|_answer|access_denied|invalid_|server_error|\[object/);
    assert.match(html, /connected|link|access|address|request|meanwhile|doing|answer/i);
  }
  // Of two doors' wrong answers, and of two ways to be late, people need not know which.
  assert.ok(titles.size >= REFUSALS.length - 2);
});

test("what a provider or a person is called is escaped everywhere", () => {
  const asked = offerPage({ provider, tenantName: "<Ann>", replaces: { accountEmail: "<a@b>" } }, "token").html;
  const connected = { kind: "connected", provider, tenantName: "<Ann>", accountEmail: "<a@b>" } as const;
  const [done, part] = [false, true].map((isPart) => connectedPage({ ...connected, isPart }).html);
  for (const html of [asked, done ?? "", part ?? ""]) {
    for (const raw of ["<Mail>", "<Ann>", "<a@b>", "read & write"]) assert.ok(!html.includes(raw), raw);
    assert.match(html, /&lt;a@b&gt;/);
  }
});

test("whoever left something out is not promised all of it", () => {
  const connected = { kind: "connected", provider, tenantName: "Ann", accountEmail: null } as const;
  assert.match(
    connectedPage({ ...connected, isPart: false }).html,
    /which can now do this:.*<li>read &amp; write<\/li>/s,
  );
  const part = connectedPage({ ...connected, isPart: true }).html;
  assert.match(part, /Not everything that it asked for was allowed/);
  assert.doesNotMatch(part, /read &amp; write/);
});

test("what is missing is named by the end of its scope", () => {
  assert.match(refusalPage({ kind: "scopes-missing", provider, missing: [scope] }).html, /missing: gmail\.modify</);
});
