import type { FastifyBaseLogger } from "fastify";
import type { Log, LogLevel } from "../core/platform/log.ts";

/**
 * What routes log through `request.log`, with the request's id. Fastify's own lines, plain texts that may name a path, are
 * left out.
 */
export function createRequestLog(log: Log, bound: Record<string, unknown> = {}): FastifyBaseLogger {
  const write =
    (level: LogLevel) =>
    (fields: unknown, message?: unknown): void => {
      if (typeof fields === "object" && typeof message === "string") log[level]({ ...bound, ...fields }, message);
    };
  return {
    level: "info",
    debug: write("debug"),
    info: write("info"),
    warn: write("warn"),
    error: write("error"),
    fatal: write("error"),
    trace: () => undefined,
    silent: () => undefined,
    child: ({ reqId }: { reqId?: unknown }) =>
      createRequestLog(log, reqId === undefined ? bound : { requestId: reqId }),
  };
}
