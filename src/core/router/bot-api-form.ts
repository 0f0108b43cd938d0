import { randomBytes } from "node:crypto";
import { on } from "node:events";
import { Readable } from "node:stream";
import { Busboy, type BusboyConfig, type BusboyInstance } from "@fastify/busboy";
import { UsageError } from "../platform/errors.ts";

/** A file on its way through; its bytes are read as they are sent on. */
export type FormFile = { name: string; filename: string; mimeType: string; bytes: AsyncIterable<Buffer> };

export type Form = {
  fields: [string, string][];
  /** To be read once, one file after the other. */
  files: AsyncIterable<FormFile>;
  /** Lets go of the form, wherever it is: who still reads files gets an error, and a form that was read to its end is left alone. */
  discard(): void;
};

const MB = 1024 * 1024;
/** The hosted Bot API takes files of up to 50 MB; the rest of the form comes on top. */
const MAX_FILE_BYTES = 50 * MB;
const MAX_FORM_BYTES = 51 * MB;
const MAX_FIELD_BYTES = MB;
const LIMITS: BusboyConfig["limits"] = {
  fieldNameSize: 128,
  fieldSize: MAX_FIELD_BYTES,
  fields: 200,
  fileSize: MAX_FILE_BYTES,
  files: 32,
  headerSize: 8_192,
};
/** Longer than Telegram may take to read on, which holds the sender up as well. */
const MAX_SILENCE_MS = 150_000;

/**
 * Reads a multipart form up to its first file; settles when all its fields are known. They must come before the files, as
 * the runtime's library writes them: files go on to Telegram without being kept anywhere, so that all that is to be checked
 * must be there first. A field that comes later fails the form. Throws UsageError; so do `files`.
 */
export async function readForm(body: Readable, contentType: string): Promise<Form> {
  const fields: [string, string][] = [];
  const parser = openParser(contentType);
  let size = 0;
  let fieldBytes = 0;
  let failure: Error | undefined;
  let isWhole = false;
  let openFile: Readable | undefined;

  function fail(error: Error): void {
    if (failure !== undefined || isWhole) return;
    failure = error;
    clearTimeout(silence);
    body.off("data", count);
    body.unpipe(parser);
    // The rest is read and thrown away, so that its sender gets to read the answer.
    body.resume();
    openFile?.destroy(error);
    parser.destroy(error);
  }
  function count(chunk: Buffer): void {
    silence.refresh();
    size += chunk.length;
    if (size > MAX_FORM_BYTES) fail(tooLarge());
  }

  const silence = setTimeout(() => fail(new UsageError("timeout", "the body does not go on")), MAX_SILENCE_MS);
  const seen = on(parser, "file", { close: ["finish"] });
  parser.on("error", fail);
  for (const limit of ["partsLimit", "filesLimit", "fieldsLimit"] as const)
    parser.on(limit, () => fail(malformed("the form has too many parts")));
  parser.on("field", (name, value, isNameCut, isValueCut) => {
    fieldBytes += Buffer.byteLength(value);
    if (isNameCut || isValueCut || fieldBytes > MAX_FIELD_BYTES) return fail(tooLarge());
    if (openFile !== undefined) return fail(malformed("in a form, the fields must come before the files"));
    fields.push([name, value]);
  });
  parser.on("file", (_name, stream) => {
    openFile = stream;
    stream.on("limit", () => fail(tooLarge()));
    stream.on("error", fail);
  });
  parser.on("finish", () => {
    isWhole = true;
    clearTimeout(silence);
  });
  body.on("data", count);
  body.on("error", fail);
  body.on("close", () => {
    if (!body.readableEnded) fail(malformed("the body ended early"));
  });
  body.pipe(parser);

  /** The next file, or undefined at the end of the form. */
  async function next(): Promise<FormFile | undefined> {
    try {
      const { done, value } = await seen.next();
      if (done === true) return undefined;
      const [name, bytes, filename, , mimeType] = value;
      return { name, filename: filename ?? "file", mimeType, bytes: readBytes(bytes) };
    } catch (error) {
      throw asUsageError(error);
    }
  }

  async function* readBytes(file: Readable): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of file) yield chunk;
    } catch (error) {
      throw asUsageError(error);
    }
  }

  async function* readFiles(first: FormFile | undefined): AsyncGenerator<FormFile> {
    for (let file = first; file !== undefined; file = await next()) {
      yield file;
      if (failure !== undefined) throw asUsageError(failure);
    }
  }

  const first = await next();
  if (failure !== undefined) throw asUsageError(failure);
  return { fields, files: readFiles(first), discard: () => fail(malformed("the call is over")) };
}

/** A form to send, as it is read. */
export function writeForm(
  fields: Iterable<[string, string]>,
  files: AsyncIterable<FormFile>,
): { contentType: string; body: Readable } {
  const boundary = randomBytes(24).toString("hex");
  const part = (head: string) => `--${boundary}\r\ncontent-disposition: form-data; ${head}\r\n\r\n`;

  async function* write(): AsyncGenerator<Buffer> {
    const texts = [...fields].map(([name, value]) => `${part(`name="${quoted(name)}"`)}${value}\r\n`);
    yield Buffer.from(texts.join(""));
    for await (const { name, filename, mimeType, bytes } of files) {
      const type = /^[\w.+-]+\/[\w.+-]+$/.test(mimeType) ? mimeType : "application/octet-stream";
      yield Buffer.from(part(`name="${quoted(name)}"; filename="${quoted(filename)}"\r\ncontent-type: ${type}`));
      for await (const chunk of bytes) yield chunk;
      yield Buffer.from("\r\n");
    }
    yield Buffer.from(`--${boundary}--\r\n`);
  }
  return {
    contentType: `multipart/form-data; boundary=${boundary}`,
    body: Readable.from(write(), { objectMode: false }),
  };
}

/** As browsers write names of files, so that none can end its quotes or its line. */
function quoted(text: string): string {
  return text.replaceAll('"', "%22").replaceAll("\r", "%0D").replaceAll("\n", "%0A");
}

function openParser(contentType: string): BusboyInstance {
  try {
    return new Busboy({ headers: { "content-type": contentType }, limits: LIMITS });
  } catch (cause) {
    throw malformed("can't parse the multipart form", cause);
  }
}

function tooLarge(): UsageError {
  return new UsageError("too-large", "Request Entity Too Large");
}

function malformed(message: string, cause?: unknown): UsageError {
  return new UsageError("malformed-form", message, { cause });
}

function asUsageError(error: unknown): UsageError {
  return error instanceof UsageError ? error : malformed("can't parse the multipart form", error);
}
