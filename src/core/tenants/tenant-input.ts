import { z } from "zod";
import { FieldsError, UsageError } from "../platform/errors.ts";
import type { StampId } from "../platform/ids.ts";
import { isPlainText } from "../platform/plain-text.ts";

export const SLUG_PATTERN = /^[a-z][a-z0-9-]{1,30}[a-z0-9]$/;

/** Telegram's ids have at most 52 significant bits; the user of a private chat has the chat's id. */
const telegramId = z.int("must be a whole number");

const TRIAL_RANGE = "must be from 0 to 365";
const KEY_FORM = "must have 1 to 200 characters, none of them a control character";
const NAME_LENGTH = "must have 1 to 200 characters";
const trialDays = z.int("must be a whole number").min(0, TRIAL_RANGE).max(365, TRIAL_RANGE);

const timeZone = z.string().refine(isTimeZone, "is not an IANA time zone such as Europe/Berlin");

const fields = {
  displayName: z
    .string()
    .trim()
    .min(1, NAME_LENGTH)
    .max(200, NAME_LENGTH)
    .refine(isPlainText, "must not hold control characters"),
  email: z.email("is not an e-mail address").max(254, "must have at most 254 characters"),
  telegramChatId: telegramId.refine((id) => id > 0, "must be a private chat: a positive number"),
  telegramUserId: telegramId.refine((id) => id > 0, "must be a positive number"),
  telegramUsername: z
    .string()
    .transform((name) => name.replace(/^@/, ""))
    .refine((name) => /^[A-Za-z0-9_]{4,32}$/.test(name), "is not a Telegram username"),
  language: z.string().regex(/^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$/, "is not a language tag such as en or pt-BR"),
  timeZone,
  preferences: z
    .record(z.string(), z.unknown())
    .refine(isStorable, "must hold neither NUL nor broken Unicode, and at most 64 KiB"),
  tags: z
    .array(z.string().regex(/^[a-z0-9][a-z0-9:._-]{0,62}$/, "must be 1 to 63 of a-z 0-9 : . _ -"))
    .max(50, "must be at most 50"),
  tier: z.enum(["basic", "plus"]),
  budgetExempt: z.boolean(),
  billingExempt: z.boolean(),
};

const newTenant = z.strictObject({
  slug: z.string().regex(SLUG_PATTERN, "must be 3 to 32 of a-z 0-9 -, begin with a letter and not end with -"),
  ...fields,
  displayName: fields.displayName.optional(),
  telegramChatId: fields.telegramChatId.optional(),
  telegramUserId: fields.telegramUserId.optional(),
  telegramUsername: fields.telegramUsername.optional(),
  language: fields.language.default("en"),
  timeZone: fields.timeZone.default("UTC"),
  preferences: fields.preferences.default({}),
  tags: fields.tags.default([]),
  tier: fields.tier.default("basic"),
  budgetExempt: fields.budgetExempt.default(false),
  billingExempt: fields.billingExempt.default(false),
  trialDays: trialDays.default(0),
  /** Undefined: the first that has room. */
  stampId: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,30}$/, "is not the name of a stamp")
    .transform((text) => text as StampId)
    .optional(),
});

const tenantChange = z
  .strictObject({ ...fields, trialDays })
  .omit({ telegramChatId: true, telegramUserId: true, telegramUsername: true })
  .partial();

const idempotencyKey = z.strictObject({
  idempotencyKey: z
    .string()
    .refine((key) => /^.{1,200}$/u.test(key) && isPlainText(key), KEY_FORM)
    .optional(),
});

export type NewTenantInput = z.input<typeof newTenant>;
export type NewTenant = z.output<typeof newTenant>;
export type TenantChange = z.output<typeof tenantChange>;

/** @throws UsageError naming every field that is wrong. */
export function parseNewTenant(input: unknown): NewTenant {
  return parse(newTenant, input);
}

/** @throws UsageError when the key can't be one. */
export function checkIdempotencyKey(key: string | undefined): void {
  parse(idempotencyKey, { idempotencyKey: key });
}

/** @throws UsageError naming every field that is wrong, or that nothing was asked. */
export function parseTenantChange(input: unknown): TenantChange {
  const change = parse(tenantChange, input);
  if (Object.keys(change).length === 0)
    throw new UsageError("nothing_to_change", "Nothing to change: name at least one field.");
  return change;
}

function parse<Schema extends z.ZodType>(schema: Schema, input: unknown): z.output<Schema> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) => ({
    field: String(path[0] ?? "input"),
    problem: message,
  }));
  throw new FieldsError("tenant_input_invalid", problems);
}

/** What PostgreSQL takes as jsonb; JSON.stringify writes both faults as escapes. */
function isStorable(value: unknown): boolean {
  const text = JSON.stringify(value);
  return text.length <= 65_536 && !/(?<!\\)(\\\\)*\\u(0000|d[89a-f][0-9a-f]{2})/i.test(text);
}

function isTimeZone(name: string): boolean {
  try {
    Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch (error) {
    // Intl has no other way to ask.
    if (error instanceof RangeError) return false;
    throw error;
  }
}
