import type { IncomingMessage, ServerResponse } from "node:http";
import { request as httpRequest, Response } from "undici";
import { type Clock, systemClock } from "../../platform/clock.ts";
import { ConflictError } from "../../platform/errors.ts";
import { createRecording, readBody, sendJson, startLoopback } from "./loopback.ts";

export type TelegramCall = {
  /** Position among all calls, from 0. */
  order: number;
  method: string;
  /** Parameters as sent: strings from forms and queries, any JSON from JSON bodies. */
  params: Record<string, unknown>;
  files: Record<string, { name: string; bytes: Buffer }>;
};

export type SentMessage = { message_id: number; date: number; chat: { id: number; type: string }; text?: string };

type Reply = { status: number; body: unknown };

export type TelegramServer = {
  /** To be used as `apiRoot`. */
  url: string;
  bot: { id: number; username: string };
  calls: TelegramCall[];
  /** What the bot has sent to a chat, oldest first. */
  messages(chatId: number): SentMessage[];
  waitFor(accepts: (call: TelegramCall) => boolean, timeoutMs?: number): Promise<TelegramCall>;
  /** Overrides fields of getWebhookInfo, such as `last_error_message`. */
  setWebhookInfo(fields: Record<string, unknown>): void;
  /** Lets a file be fetched with getFile and from `/file/bot<token>/<path>`. */
  addFile(fileId: string, path: string, bytes: Buffer): void;
  /** The next call of `method` gets this reply and has no effect. Several queue up. */
  failNext(method: string, reply: Reply): void;
  /** Posts an update to the webhook last set, with its secret, as Telegram would; resolves with the status. */
  deliver(update: { update_id: number; [field: string]: unknown }): Promise<number>;
  /** As Telegram does after a while. */
  closeIdleConnections(): void;
  close(): Promise<void>;
};

type State = {
  bot: { id: number; username: string };
  clock: Clock;
  webhook: { url: string; secret: string };
  webhookInfo: Record<string, unknown>;
  files: Map<string, { path: string; bytes: Buffer }>;
  sent: SentMessage[];
};

const MAX_TEXT = 4_096;
const METHOD =
  /^(get|set|send|edit|delete|answer|forward|copy|pin|unpin|stop|close|reopen|create|log|leave|ban)[A-Za-z]*$/;

/** The Bot API of one bot, on loopback: the replies that the control plane and a runtime depend on, with faults on demand. */
export async function startTelegramServer(options: {
  token: string;
  bot?: { id: number; username: string };
  clock?: Clock;
}): Promise<TelegramServer> {
  const state: State = {
    bot: options.bot ?? { id: Number.parseInt(options.token, 10) || 4242, username: "openclaw_loopback_bot" },
    clock: options.clock ?? systemClock,
    webhook: { url: "", secret: "" },
    webhookInfo: {},
    files: new Map(),
    sent: [],
  };
  const recording = createRecording<TelegramCall>();
  const failures = new Map<string, Reply[]>();

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://loopback");
    const [, file, token, rest] = /^\/(file\/)?bot([^/]+)\/(.+)$/.exec(decodeURI(url.pathname)) ?? [];
    if (rest === undefined) return send(response, failed(404, "Not Found"));
    if (token !== options.token) return send(response, failed(401, "Unauthorized"));
    if (file !== undefined) return sendFile(state, response, rest);

    const { params, files } = await readParams(request, url);
    if (!METHOD.test(rest)) return send(response, failed(404, "Not Found"));
    const reply = failures.get(rest)?.shift() ?? answer(state, rest, params);
    recording.add({ order: recording.entries.length, method: rest, params, files });
    send(response, reply);
  }

  const server = await startLoopback(handle);
  return {
    url: server.url,
    bot: state.bot,
    calls: recording.entries,
    messages: (chatId) => state.sent.filter((message) => message.chat.id === chatId),
    waitFor: recording.waitFor,
    setWebhookInfo(fields) {
      state.webhookInfo = { ...state.webhookInfo, ...fields };
    },
    addFile(fileId, path, bytes) {
      state.files.set(fileId, { path, bytes });
    },
    failNext(method, reply) {
      failures.set(method, [...(failures.get(method) ?? []), reply]);
    },
    async deliver(update) {
      if (state.webhook.url === "") throw new ConflictError("no-webhook", "No webhook is set on the loopback Bot API");
      const { statusCode, body } = await httpRequest(state.webhook.url, {
        method: "POST",
        headers: { "content-type": "application/json", "x-telegram-bot-api-secret-token": state.webhook.secret },
        body: JSON.stringify(update),
      });
      await body.dump();
      return statusCode;
    },
    closeIdleConnections: server.closeIdleConnections,
    close: server.close,
  };
}

function answer(state: State, method: string, params: Record<string, unknown>): Reply {
  const self = { ...state.bot, is_bot: true, first_name: state.bot.username };
  switch (method) {
    case "getMe":
      return ok({
        ...self,
        can_join_groups: false,
        can_read_all_group_messages: false,
        supports_inline_queries: false,
      });
    case "setWebhook":
      state.webhook = { url: text(params["url"]), secret: text(params["secret_token"]) };
      forgetPending(state, params);
      state.webhookInfo = { ...state.webhookInfo, ...webhookSettings(params) };
      return ok(true);
    case "deleteWebhook":
      state.webhook = { url: "", secret: "" };
      forgetPending(state, params);
      return ok(true);
    case "getWebhookInfo":
      return ok({
        url: state.webhook.url,
        has_custom_certificate: false,
        pending_update_count: 0,
        ...state.webhookInfo,
      });
    case "getUpdates":
      return state.webhook.url === ""
        ? ok([])
        : failed(
            409,
            "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first",
          );
    case "getMyCommands":
      return ok([]);
    case "getChat":
      return ok({ id: Number(params["chat_id"]), type: "private", first_name: "Loopback" });
    case "getFile":
      return fileInfo(state, text(params["file_id"]));
    case "sendChatAction":
    case "sendMessageDraft":
    case "sendRichMessageDraft":
      return ok(true);
    case "sendMessage":
      return textProblem(params["text"]) ?? sendTo(state, params);
    case "editMessageText":
      return textProblem(params["text"]) ?? ok({ ...message(state, params), message_id: Number(params["message_id"]) });
    default:
      return /^(send|forward|copy)/.test(method) ? sendTo(state, params) : ok(true);
  }
}

function forgetPending(state: State, params: Record<string, unknown>): void {
  if (params["drop_pending_updates"] === true) state.webhookInfo = { ...state.webhookInfo, pending_update_count: 0 };
}

/** Kept from one call to the next when left out, as Telegram does with `allowed_updates`. */
function webhookSettings(params: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(params).filter(([name]) => /^(max_connections|allowed_updates)$/.test(name)),
  );
}

function message(state: State, params: Record<string, unknown>): Omit<SentMessage, "message_id"> {
  const caption = params["text"] ?? params["caption"];
  return {
    date: Math.floor(state.clock.now().getTime() / 1000),
    chat: { id: Number(params["chat_id"]), type: "private" },
    ...(caption === undefined ? {} : { text: text(caption) }),
  };
}

function sendTo(state: State, params: Record<string, unknown>): Reply {
  if (text(params["chat_id"]) === "") return failed(400, "Bad Request: chat_id is empty");
  const sent = { message_id: state.sent.length + 1, ...message(state, params) };
  state.sent.push(sent);
  return ok({ ...sent, from: { ...state.bot, is_bot: true, first_name: state.bot.username } });
}

function textProblem(value: unknown): Reply | undefined {
  const content = text(value);
  if (content.trim() === "") return failed(400, "Bad Request: message text is empty");
  return content.length > MAX_TEXT ? failed(400, "Bad Request: message is too long") : undefined;
}

function fileInfo(state: State, fileId: string): Reply {
  const file = state.files.get(fileId);
  if (file === undefined) return failed(400, "Bad Request: wrong file_id or the file is temporarily unavailable");
  return ok({ file_id: fileId, file_unique_id: `u-${fileId}`, file_size: file.bytes.length, file_path: file.path });
}

function sendFile(state: State, response: ServerResponse, path: string): void {
  const file = [...state.files.values()].find((candidate) => candidate.path === path);
  if (file === undefined) return send(response, failed(404, "Not Found"));
  response
    .writeHead(200, { "content-type": "application/octet-stream", "content-length": file.bytes.length })
    .end(file.bytes);
}

function ok(result: unknown): Reply {
  return { status: 200, body: { ok: true, result } };
}

function failed(status: number, description: string): Reply {
  return { status, body: { ok: false, error_code: status, description } };
}

function send(response: ServerResponse, { status, body }: Reply): void {
  sendJson(response, status, body);
}

function text(value: unknown): string {
  if (typeof value === "string") return value;
  return value === undefined || value === null ? "" : JSON.stringify(value);
}

async function readParams(request: IncomingMessage, url: URL): Promise<Pick<TelegramCall, "params" | "files">> {
  const params: Record<string, unknown> = Object.fromEntries(url.searchParams);
  const files: TelegramCall["files"] = {};
  const body = await readBody(request);
  const type = request.headers["content-type"] ?? "";
  if (body.length === 0) return { params, files };
  if (type.startsWith("application/json")) return { params: { ...params, ...JSON.parse(body.toString()) }, files };
  const form = await new Response(body, { headers: { "content-type": type } }).formData();
  for (const [name, value] of form) {
    if (typeof value === "string") params[name] = value;
    else files[name] = { name: value.name, bytes: Buffer.from(await value.arrayBuffer()) };
  }
  return { params, files };
}
