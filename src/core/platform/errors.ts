/**
 * Errors that an edge (command line, HTTP, job) translates. `code` is stable and part of what callers may rely on;
 * the message says what failed, on what, and what to do next. Nothing here knows exit codes or HTTP statuses.
 */
export type ErrorKind = "usage" | "config" | "not-found" | "conflict" | "upstream" | "partial" | "finding" | "timeout";

export abstract class OpenClawError extends Error {
  abstract readonly kind: ErrorKind;
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.name = new.target.name;
  }
}

/** What was typed or sent is malformed. */
export class UsageError extends OpenClawError {
  readonly kind = "usage";
}

/** Fields with values that they can't have; an edge may name them as its own callers do. */
export class FieldsError extends UsageError {
  readonly problems: readonly FieldProblem[];

  constructor(code: string, problems: readonly FieldProblem[], options?: ErrorOptions) {
    super(code, `${problems.map(({ field, problem }) => `${field} ${problem}`).join("; ")}.`, options);
    this.problems = problems;
  }
}

export type FieldProblem = { field: string; problem: string };

/** The configuration is incomplete or wrong; `problems` holds one line each. */
export class ConfigError extends OpenClawError {
  readonly kind = "config";
  readonly problems: readonly string[];

  constructor(code: string, problems: readonly string[], options?: ErrorOptions) {
    super(code, problems.join("\n"), options);
    this.problems = problems;
  }
}

/** The thing named does not exist. */
export class NotFoundError extends OpenClawError {
  readonly kind = "not-found";
}

/** It exists, but its state, or somebody else's claim, forbids what was asked. */
export class ConflictError extends OpenClawError {
  readonly kind = "conflict";
}

/** An outside service failed or can't be reached; `retryable` when the same call may succeed later. */
export class UpstreamError extends OpenClawError {
  readonly kind = "upstream";
  readonly service: string;
  readonly retryable: boolean;

  constructor(code: string, message: string, options: ErrorOptions & { service: string; retryable: boolean }) {
    super(code, message, options);
    this.service = options.service;
    this.retryable = options.retryable;
  }
}

/**
 * No failure yet: the service is still at it, or asked to be left alone for a while. The same call is due again in `afterMs`, and
 * nobody counts it as an attempt.
 */
export class DeferredError extends UpstreamError {
  readonly afterMs: number;

  constructor(code: string, message: string, options: ErrorOptions & { service: string; afterMs: number }) {
    super(code, message, { ...options, retryable: true });
    this.afterMs = options.afterMs;
  }
}

/** Some of many items failed; each was already reported. */
export class PartialError extends OpenClawError {
  readonly kind = "partial";
}

/** A check did its work and found something to mend. */
export class FindingError extends OpenClawError {
  readonly kind = "finding";
}

/** What was waited for did not come about in time. */
export class TimeoutError extends OpenClawError {
  readonly kind = "timeout";
}

/** The message of anything thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Marks a branch that types rule out. */
export function assertNever(value: never): never {
  throw new Error(`Unexpected value: ${JSON.stringify(value)}`);
}
