/** What ARM answers instead of a resource, thrown by whatever finds the request wrong. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Record<string, string>;

  constructor(status: number, code: string, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

export function notFound(kind: string, name: string, group: string): Refusal {
  return new Refusal(
    404,
    "ResourceNotFound",
    `The Resource '${kind}/${name}' under resource group '${group}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix`,
  );
}

/** One wrong field of a container template, in the words that Container Apps has for all of them. */
export type FieldProblem = { field: string; value: string; problem: string };

export function invalidFields(problems: readonly FieldProblem[]): Refusal {
  const fields = problems.map(
    ({ field, value, problem }) => `Field '${field}' is invalid with details: 'Invalid value: "${value}": ${problem}';`,
  );
  return new Refusal(
    400,
    "InvalidParameterValueInContainerTemplate",
    `The following field(s) are either invalid or missing. ${fields.join(" ")}.`,
  );
}
