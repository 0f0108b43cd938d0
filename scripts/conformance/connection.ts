import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { request } from "undici";
import { z } from "zod";
import { UpstreamError } from "../../src/core/platform/errors.ts";
import type { ToolCall } from "../../src/core/testing/fakes/model-shapes.ts";
import { ANN, LOOPBACK_CLIENT, type OAuthProvider } from "../../src/core/testing/fakes/oauth/oauth-server.ts";

/** Whose account is connected, which nobody but the provider says. */
export const ACCOUNT = ANN.email;
/** What the example in the instructions asks Gmail for. */
const GMAIL_URL = /https:\/\/gmail\.googleapis\.com\/[^"]*/;

/** What makes a provider on loopback stand in for Google, whose definition stays as it is otherwise. */
export async function loopbackGoogle(dataDir: string, oauth: OAuthProvider): Promise<Record<string, string>> {
  const { authorizeUrl, tokenUrl, revokeUrl, url: issuer } = oauth;
  const file = path.join(dataDir, "providers.json");
  const gmail = { id: "gmail", issuer, authorizeUrl, tokenUrl, revokeUrl };
  await writeFile(file, JSON.stringify({ providers: [gmail] }));
  return {
    OPENCLAW_PROVIDERS_FILE: file,
    GOOGLE_CLIENT_ID: LOOPBACK_CLIENT.id,
    GOOGLE_CLIENT_SECRET: LOOPBACK_CLIENT.secret,
  };
}

/** Follows the link of `openclaw integration connect` as a person does, through the provider's consent and back. */
export async function followLink(link: string, oauth: OAuthProvider): Promise<void> {
  const { origin, pathname, searchParams } = new URL(link);
  const begun = await request(origin + pathname, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: searchParams.toString(),
  });
  const { location, "set-cookie": cookie } = begun.headers;
  const page = await begun.body.text();
  if (typeof location !== "string") throw unexpected(`the start page answered ${begun.statusCode}: ${page}`);
  const [nonce = ""] = String(cookie).split(";");
  const back = await request(oauth.consent(new URL(location)), { headers: { cookie: nonce } });
  const result = await back.body.text();
  if (back.statusCode !== 200) throw unexpected(`the callback answered ${back.statusCode}: ${result}`);
}

const callSchema = z.object({
  system: z.array(z.object({ text: z.string() })),
  messages: z.array(z.object({ content: z.unknown() })),
});

/**
 * What the model does when it is asked for mail: it runs the example in its instructions, `apiUrl` in the place of Gmail, and says what
 * came of it, after `words`. Over the Messages API.
 */
export function followExample(
  body: unknown,
  { question, words, apiUrl }: { question: string; words: string; apiUrl: string },
): string | ToolCall {
  const { system, messages } = callSchema.parse(body);
  const texts = messages.map(({ content }) => JSON.stringify(content));
  const since = texts.slice(texts.findLastIndex((text) => text.includes(question)) + 1);
  const brought = since.find((text) => text.includes('"tool_result"'));
  if (brought !== undefined) return `${words} ${brought}`;
  const instructions = system.map(({ text }) => text).join("\n");
  const [example] = /^node --input-type=module .*$/m.exec(instructions) ?? [];
  if (example === undefined) return "There is no example in my instructions.";
  return { tool: "exec", input: { command: example.replace(GMAIL_URL, apiUrl) } };
}

/** Files below `folder` in which `text` stands. */
export async function filesWith(folder: string, text: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (entry.isFile() && (await readIfThere(file)).includes(text)) found.push(file);
  }
  return found;
}

/** Databases drop files of theirs at any time. */
function readIfThere(file: string): Promise<Buffer> {
  return readFile(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return Buffer.alloc(0);
    throw error;
  });
}

function unexpected(problem: string): UpstreamError {
  return new UpstreamError("not_conforming", problem, { service: "openclaw", retryable: false });
}
