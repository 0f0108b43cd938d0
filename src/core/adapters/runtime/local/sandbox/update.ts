import { field, textField } from "./settings.ts";

/** What an update asks for. Only private messages and button taps get a turn. */
export type Turn = { chatId: string; senderId: string; prompt: string; callbackQueryId: string | undefined };

/** Keys by which a repetition is recognised: the update's id, and for messages their place in the chat. */
export function keysOf(updateId: number, update: unknown): string[] {
  const message = field(update, "message");
  const key = `update:${updateId}`;
  return message === undefined
    ? [key]
    : [key, `message:${String(field(message, "chat", "id"))}:${String(field(message, "message_id"))}`];
}

/** The turn that an update asks for; undefined for groups and for kinds of update that get none. */
export function turnOf(update: unknown): Turn | undefined {
  const query = field(update, "callback_query");
  const message = field(query ?? update, "message");
  if (field(message, "chat", "type") !== "private") return undefined;
  const prompt = query === undefined ? promptOf(message) : (textField(query, "data") ?? "");
  return {
    chatId: String(field(message, "chat", "id")),
    senderId: String(field(query ?? message, "from", "id")),
    prompt,
    callbackQueryId: query === undefined ? undefined : String(field(query, "id")),
  };
}

function promptOf(message: unknown): string {
  const words = textField(message, "text") ?? textField(message, "caption");
  const attachment = ["photo", "voice", "audio", "video", "document", "sticker", "location"].find(
    (kind) => field(message, kind) !== undefined,
  );
  return [attachment === undefined ? undefined : `[${attachment}]`, words]
    .filter((part) => part !== undefined)
    .join(" ");
}
