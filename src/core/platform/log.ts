import pino from "pino";

export type LogLevel = "debug" | "info" | "warn" | "error";

/** Structured log lines: fields first, then a message that is the same for every occurrence. */
export type Log = Readonly<Record<LogLevel, (fields: object, message: string) => void>>;

/**
 * Keys that may carry a secret or a person's words. They are masked wherever they stand in the first three levels, as the
 * second wall: the first is that nobody logs bodies, headers or URLs (F90, F91).
 */
const REDACTED = [
  "token",
  "secret",
  "password",
  "apiKey",
  "authorization",
  "cookie",
  "url",
  "body",
  "text",
  "headers",
  "connectionString",
];

/** A logger writing JSON lines to `destination` (standard error unless told). */
export function createLog(
  level: LogLevel,
  destination: pino.DestinationStream = pino.destination({ fd: 2, sync: true }),
): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: REDACTED.flatMap((key) => [key, `*.${key}`, `*.*.${key}`]), censor: "[redacted]" },
      serializers: { error: serializeError, err: serializeError },
    },
    destination,
  );
}

/** Only what helps to find the fault: library errors carry requests, options and parameters that may hold secrets. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return { message: String(error) };
  const { code } = error as { code?: unknown };
  return {
    name: error.name,
    message: error.message,
    ...(code === undefined ? {} : { code }),
    stack: error.stack,
    ...(error.cause === undefined ? {} : { cause: serializeError(error.cause) }),
  };
}
