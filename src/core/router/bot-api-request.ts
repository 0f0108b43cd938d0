import type { File } from "node:buffer";
import type { Readable } from "node:stream";
import { FormData, Response } from "undici";
import { UsageError } from "../platform/errors.ts";
import { type Json, parseStrictJson } from "./bot-api-json.ts";

/** One Bot API call, read once: what is checked is what is sent, since it is written anew from here. */
export type BotApiRequest = { params: Map<string, Json>; files: Map<string, File> };

const MAX_BODY_BYTES = 1024 * 1024;
/** The hosted Bot API takes files of up to 50 MB; the rest of the form comes on top. */
const MAX_FORM_BYTES = 51 * 1024 * 1024;
const PARAM_NAME = /^[a-z][a-z0-9_]*$/;

/** Texts for people. Telegram never parses them, so one that happens to look like JSON stays a text. */
const FREE_TEXT = new Set(
  `text caption title description name question explanation performer first_name last_name phone_number vcard address emoji
  callback_data url`.split(/\s+/),
);

/** Reads a call from its query string and body (JSON, urlencoded or multipart). Throws UsageError; code `too-large` for a body over the limit. */
export async function readBotApiRequest(source: {
  query: string;
  contentType: string | undefined;
  body: Readable | undefined;
}): Promise<BotApiRequest> {
  const request: BotApiRequest = { params: new Map(), files: new Map() };
  addPairs(request, new URLSearchParams(source.query));
  if (source.body === undefined) return request;

  const type = source.contentType?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  const isForm = type === "multipart/form-data";
  const bytes = await readAtMost(source.body, isForm ? MAX_FORM_BYTES : MAX_BODY_BYTES);
  if (bytes.length === 0) return request;
  if (isForm) addPairs(request, await parseForm(bytes, source.contentType ?? ""));
  else if (type === "application/x-www-form-urlencoded") addPairs(request, new URLSearchParams(decodeUtf8(bytes)));
  else if (type === "application/json") addJson(request, parseStrictJson(decodeUtf8(bytes)));
  else throw new UsageError("unsupported-type", "the body must be JSON, urlencoded or multipart");
  return request;
}

/** The body to send upstream, and its type. */
export async function writeBotApiRequest({ params, files }: BotApiRequest): Promise<{
  body: string | Buffer;
  contentType: string;
}> {
  if (files.size === 0) return { body: JSON.stringify(Object.fromEntries(params)), contentType: "application/json" };
  const form = new FormData();
  for (const [name, value] of params) form.set(name, typeof value === "string" ? value : JSON.stringify(value));
  for (const [name, file] of files) form.set(name, file, file.name);
  // undici 8.12.4 never finishes a request whose body is a FormData, so the form is encoded first.
  const encoded = new Response(form);
  const contentType = encoded.headers.get("content-type") ?? "multipart/form-data";
  return { body: Buffer.from(await encoded.arrayBuffer()), contentType };
}

function addJson(request: BotApiRequest, value: Json): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UsageError("malformed-json", "the body must be a JSON object");
  }
  for (const [name, field] of Object.entries(value)) addParam(request, name, field);
}

function addPairs(request: BotApiRequest, pairs: Iterable<[string, string | File]>): void {
  for (const [name, value] of pairs) {
    if (typeof value === "string") addParam(request, name, value);
    else addFile(request, name, value);
  }
}

function addFile(request: BotApiRequest, name: string, file: File): void {
  // Only params are checked for whom they name.
  if (/_ids?$/.test(name)) throw new UsageError("malformed-parameter", `${name} can't be a file`);
  refuseRepeated(request, name);
  request.files.set(name, file);
}

function addParam(request: BotApiRequest, name: string, value: Json): void {
  if (!PARAM_NAME.test(name)) throw new UsageError("malformed-parameter", "a parameter has a malformed name");
  refuseRepeated(request, name);
  if (value !== null) request.params.set(name, structured(name, value));
}

function refuseRepeated({ params, files }: BotApiRequest, name: string): void {
  if (params.has(name) || files.has(name)) throw new UsageError("repeated-key", `the parameter ${name} is repeated`);
}

/** Telegram takes objects and arrays as strings of JSON too: they are parsed, so that what they name is checked like anything else. */
function structured(name: string, value: Json): Json {
  if (typeof value !== "string" || FREE_TEXT.has(name) || !/^\s*[{[]/.test(value)) return value;
  return parseStrictJson(value);
}

async function parseForm(bytes: Buffer, contentType: string): Promise<Iterable<[string, string | File]>> {
  try {
    return await new Response(bytes, { headers: { "content-type": contentType } }).formData();
  } catch (cause) {
    throw new UsageError("malformed-form", "can't parse the multipart form", { cause });
  }
}

function decodeUtf8(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new UsageError("malformed-text", "the body is not UTF-8", { cause });
  }
}

async function readAtMost(stream: Readable, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > maxBytes) throw new UsageError("too-large", "Request Entity Too Large");
    chunks.push(bytes);
  }
  return Buffer.concat(chunks);
}
