import type { Account, Body } from "./account.ts";
import { type Form, text, texts } from "./form.ts";
import { invalid, Refusal } from "./refusal.ts";
import { type Books, type Result, ROUTES } from "./routes.ts";
import { type ApiShape, inShape } from "./shapes.ts";

const DEFAULT_LIMIT = 10;
const MAX_LIMIT = 100;

export type Request = { method: string; path: string; form: Form; shape: ApiShape };

/** What Stripe says to a request that is allowed. @throws Refusal. */
export function answer(books: Books, { method, path, form, shape }: Request): unknown {
  for (const route of ROUTES) {
    const match = route.method === method ? route.path.exec(path) : null;
    if (match === null) continue;
    refuseUnknown(form, route.params);
    const result = route.handle(books, form, decodeURIComponent(match[1] ?? ""));
    return render(books.account, result, { path, form, shape });
  }
  throw new Refusal(404, {
    type: "invalid_request_error",
    message: `Unrecognized request URL (${method}: ${path}). Please see https://stripe.com/docs or we can help at https://support.stripe.com/.`,
  });
}

function refuseUnknown(form: Form, known: readonly string[]): void {
  const name = Object.keys(form).find((one) => one !== "expand" && !known.includes(one));
  if (name !== undefined) throw invalid(`Received unknown parameter: ${name}`, name, "parameter_unknown");
}

function render(account: Account, result: Result, request: Omit<Request, "method">): unknown {
  const paths = texts(request.form, "expand").map((path) => path.split("."));
  if (!Array.isArray(result)) return expand(account, result, paths, request.shape);
  const { page, hasMore } = pageOf(result, request.form);
  const inner = paths.map(([first, ...rest]) => {
    if (first !== "data") throw invalid(`This property cannot be expanded (${String(first)}).`, "expand");
    return rest;
  });
  const data = page.map((body) => expand(account, body, inner, request.shape));
  return { object: "list", data, has_more: hasMore, url: request.path };
}

function pageOf(list: Body[], form: Form): { page: Body[]; hasMore: boolean } {
  const limit = Number(text(form, "limit") ?? DEFAULT_LIMIT);
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > MAX_LIMIT)
    throw invalid(`Invalid integer: ${text(form, "limit")}`, "limit", "parameter_invalid_integer");
  const after = text(form, "starting_after");
  const start = after === undefined ? 0 : list.findIndex(({ id }) => id === after) + 1;
  if (after !== undefined && start === 0)
    throw invalid(`No such object: '${after}'`, "starting_after", "resource_missing");
  return { page: list.slice(start, start + limit), hasMore: list.length > start + limit };
}

/** The object with the ids at `paths` replaced by what they name. */
function expand(account: Account, body: Body, paths: string[][], shape: ApiShape): Record<string, unknown> {
  const shown = { ...inShape(account, body, shape) };
  for (const [field = "", ...rest] of paths) {
    const id = shown[field];
    const related = typeof id === "string" ? account.objects.get(id) : undefined;
    if (related !== undefined) shown[field] = expand(account, related, rest.length === 0 ? [] : [rest], shape);
  }
  return shown;
}
