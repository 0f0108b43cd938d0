import type { Json } from "./bot-api-json.ts";

/** Ids that Telegram hands out and that a tenant owns because they were delivered to it. */
export type TelegramIdKind =
  | "business-connection"
  | "inline-message"
  | "callback-query"
  | "inline-query"
  | "file"
  | "file-path";

export type TenantChat = { chatId: number; userId: number | null };

/** Something a call names, which must belong to the tenant; `unknown` when it looks like an id that nobody has classified. */
export type Claim = { field: string; kind: "chat" | "user" | "unknown" | TelegramIdKind; value: Json };

const KIND_BY_FIELD = new Map<string, Claim["kind"]>([
  ["chat_id", "chat"],
  ["from_chat_id", "chat"],
  ["sender_chat_id", "chat"],
  ["user_chat_id", "chat"],
  ["chat_ids", "chat"],
  ["user_id", "user"],
  ["user_ids", "user"],
  ["business_connection_id", "business-connection"],
  ["inline_message_id", "inline-message"],
  ["callback_query_id", "callback-query"],
  ["inline_query_id", "inline-query"],
]);

/** They count within a chat that is checked, or are the same for everybody. */
const HARMLESS = new Set(
  `message_id message_ids reply_to_message_id message_thread_id direct_messages_topic_id draft_id message_effect_id request_id
  custom_emoji_id icon_custom_emoji_id checklist_task_id poll_option_id option_id option_ids correct_option_id correct_option_ids
  foursquare_id google_place_id`.split(/\s+/),
);

/** They take a file id, a URL, or `attach://<part>`. */
const MEDIA = new Set(
  "photo live_photo audio document video animation voice video_note sticker media thumbnail thumb cover".split(" "),
);

/** Everything that `params` name at any depth and that has an owner. */
export function claimsOf(params: Iterable<[string, Json]>): Claim[] {
  const claims: Claim[] = [];
  for (const [field, value] of params) collect(field, value, claims);
  return claims;
}

/** Whether what is claimed was handed out by Telegram, and is not a chat or a user. */
export function isIdKind(kind: Claim["kind"]): kind is TelegramIdKind {
  return kind !== "chat" && kind !== "user" && kind !== "unknown";
}

/** Whether a claim is on this tenant's own chat or user. Ids are numbers or strings of one: a name such as `@channel` never is. */
export function isOwnChat(kind: "chat" | "user" | "unknown", value: Json, tenant: TenantChat): boolean {
  const id = parseChatId(value);
  if (kind === "chat") return id === tenant.chatId;
  // In a private chat, the only kind that is served, the chat's id is the user's.
  return kind === "user" && (id === tenant.chatId || (tenant.userId !== null && id === tenant.userId));
}

/** The ids in the text of a reply of Telegram's that the tenant may use from now on; none when the reply is not JSON. */
export function idsGranted(replyText: string): { kind: "file" | "file-path"; id: string }[] {
  const granted: { kind: "file" | "file-path"; id: string }[] = [];
  visitFields(parseReply(replyText), (field, value) => {
    if (typeof value !== "string") return;
    if (/(^|_)file_id$/.test(field)) granted.push({ kind: "file", id: value });
    if (field === "file_path") granted.push({ kind: "file-path", id: value });
  });
  return granted;
}

function collect(field: string, value: Json, claims: Claim[]): void {
  for (const item of Array.isArray(value) ? value : [value]) {
    const kind = kindOf(field, item);
    if (kind !== undefined && item !== null) claims.push({ field, kind, value: item });
  }
  // A mention carries a whole user, and names it by `id`.
  if ((field === "user" || field === "chat") && isObject(value) && value["id"] !== undefined) {
    claims.push({ field: `${field}.id`, kind: field, value: value["id"] });
  }
  if (Array.isArray(value)) for (const item of value) collectInside(item, claims);
  else collectInside(value, claims);
}

function collectInside(value: Json, claims: Claim[]): void {
  if (Array.isArray(value)) for (const item of value) collectInside(item, claims);
  else if (isObject(value)) for (const [field, inner] of Object.entries(value)) collect(field, inner, claims);
}

function kindOf(field: string, value: Json): Claim["kind"] | undefined {
  const known = KIND_BY_FIELD.get(field);
  if (known !== undefined) return known;
  if (HARMLESS.has(field)) return undefined;
  if (/(^|_)file_id$/.test(field)) return "file";
  if (MEDIA.has(field)) return typeof value === "string" && !/^(https?|attach):\/\//i.test(value) ? "file" : undefined;
  return /_ids?$/.test(field) ? "unknown" : undefined;
}

function parseReply(text: string): Json {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function visitFields(value: Json, visit: (field: string, value: Json) => void): void {
  if (Array.isArray(value)) for (const item of value) visitFields(item, visit);
  if (!isObject(value)) return;
  for (const [field, inner] of Object.entries(value)) {
    visit(field, inner);
    visitFields(inner, visit);
  }
}

function isObject(value: Json): value is { [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseChatId(value: Json): number | undefined {
  if (typeof value === "number") return value;
  return typeof value === "string" && /^-?[1-9]\d{0,15}$/.test(value) ? Number(value) : undefined;
}
