import { isUtf8 } from "node:buffer";
import type { Readable } from "node:stream";
import { UsageError } from "../platform/errors.ts";
import { joined } from "../platform/exchange.ts";
import { type Form, type FormFile, readForm, writeForm } from "./bot-api-form.ts";
import { type Json, parseStrictJson } from "./bot-api-json.ts";

/** One Bot API call, read once: what is checked is what is sent, since it is written anew from here. */
export type BotApiRequest = {
  params: Map<string, Json>;
  /** Files that are still on their way here; undefined for calls that can't have any. */
  upload: Pick<Form, "files" | "discard"> | undefined;
};

type Params = BotApiRequest["params"];

const MAX_BODY_BYTES = 1024 * 1024;
const PARAM_NAME = /^[a-z][a-z0-9_]*$/;
const FILE_NAME = /^[\w.-]{1,128}$/;

/** Texts for people. Telegram never parses them, so one that happens to look like JSON stays a text. */
const FREE_TEXT = new Set(
  `text caption title description name question explanation performer first_name last_name phone_number vcard address emoji
  callback_data url`.split(/\s+/),
);

/**
 * Reads a call from its query string and body: JSON, urlencoded, or multipart up to the first file. Throws UsageError; code
 * `too-large` for a body over the limit.
 */
export async function readBotApiRequest(source: {
  query: string;
  contentType: string | undefined;
  body: Readable | undefined;
}): Promise<BotApiRequest> {
  const params: Params = new Map();
  if (source.query !== "") addPairs(params, new URLSearchParams(source.query));
  const { body, contentType = "" } = source;
  if (body === undefined) return { params, upload: undefined };

  const type = contentType.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (type === "multipart/form-data") return readFormRequest(params, body, contentType);
  const bytes = await readAtMost(body, MAX_BODY_BYTES);
  if (bytes.length === 0) return { params, upload: undefined };
  refuseOtherCharsets(contentType);
  if (type === "application/json") addJson(params, parseStrictJson(decodeUtf8(bytes)));
  else if (type === "application/x-www-form-urlencoded") addPairs(params, new URLSearchParams(decodeUtf8(bytes)));
  else throw new UsageError("unsupported-type", "the body must be JSON, urlencoded or multipart");
  return { params, upload: undefined };
}

async function readFormRequest(params: Params, body: Readable, contentType: string): Promise<BotApiRequest> {
  const form = await readForm(body, contentType);
  try {
    addPairs(params, form.fields);
  } catch (error) {
    form.discard();
    throw error;
  }
  return { params, upload: { files: checkFiles(params, form.files), discard: form.discard } };
}

/** The body to send upstream, and its type. */
export function writeBotApiRequest({ params, upload }: BotApiRequest): {
  body: string | Readable;
  contentType: string;
} {
  if (upload === undefined)
    return { body: JSON.stringify(Object.fromEntries(params)), contentType: "application/json" };
  const fields = [...params].map(([name, value]): [string, string] => [
    name,
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
  return writeForm(fields, upload.files);
}

/** Only params are checked for whom they name, so that no file may stand for one. */
async function* checkFiles(params: Params, files: AsyncIterable<FormFile>): AsyncGenerator<FormFile> {
  const names = new Set(params.keys());
  for await (const file of files) {
    if (!FILE_NAME.test(file.name) || /_ids?$/.test(file.name))
      throw new UsageError("malformed-parameter", "a file has a name that it can't have");
    refuseRepeated(names, file.name);
    names.add(file.name);
    yield file;
  }
}

function addJson(params: Params, value: Json): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UsageError("malformed-json", "the body must be a JSON object");
  }
  for (const [name, field] of Object.entries(value)) addParam(params, name, field);
}

function addPairs(params: Params, pairs: Iterable<[string, string]>): void {
  for (const [name, value] of pairs) addParam(params, name, value);
}

function addParam(params: Params, name: string, value: Json): void {
  if (!PARAM_NAME.test(name)) throw new UsageError("malformed-parameter", "a parameter has a malformed name");
  refuseRepeated(params, name);
  if (value !== null) params.set(name, structured(name, value));
}

function refuseRepeated(names: { has(name: string): boolean }, name: string): void {
  if (names.has(name)) throw new UsageError("repeated-key", `the parameter ${name} is repeated`);
}

/** Telegram takes objects and arrays as strings of JSON too: they are parsed, so that what they name is checked like anything else. */
function structured(name: string, value: Json): Json {
  if (typeof value !== "string" || FREE_TEXT.has(name) || !/^\s*[{[]/.test(value)) return value;
  return parseStrictJson(value);
}

/** Telegram reads UTF-8 whatever is announced: what would mean something else in another charset is not guessed at. */
function refuseOtherCharsets(contentType: string): void {
  const [, charset] = /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(contentType) ?? [];
  if (charset !== undefined && !/^(utf-?8|us-ascii)$/i.test(charset))
    throw new UsageError("unsupported-charset", "the body must be UTF-8");
}

function decodeUtf8(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new UsageError("malformed-text", "the body is not UTF-8");
  return bytes.toString();
}

function readAtMost(stream: Readable, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const take = (chunk: Buffer) => {
      size += chunk.length;
      chunks.push(chunk);
      // Not closed: that would take the connection with it, and the refusal with the connection.
      if (size > maxBytes) fail(new UsageError("too-large", "Request Entity Too Large"));
    };
    const finish = () => {
      stopListening();
      resolve(joined(chunks));
    };
    const fail = (error: Error) => {
      stopListening();
      reject(error);
    };
    const cutOff = () => fail(new UsageError("cut-off", "the body ended early"));
    function stopListening(): void {
      stream.off("data", take).off("end", finish).off("error", fail).off("close", cutOff);
    }
    stream.on("data", take).on("end", finish).on("error", fail).on("close", cutOff);
  });
}
