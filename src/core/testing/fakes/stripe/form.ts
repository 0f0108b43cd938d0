export type FormValue = string | FormValue[] | Form;
export type Form = { [name: string]: FormValue };

/** Parameters as Stripe reads them from a form or a query: `items[0][price]=p`, `expand[]=customer`, `metadata[a]=b`. */
export function parseForm(encoded: string): Form {
  const form: Form = {};
  for (const [name, value] of new URLSearchParams(encoded)) place(form, pathOf(name), value);
  return Object.fromEntries(Object.entries(form).map(([name, value]) => [name, withArrays(value)]));
}

function pathOf(name: string): string[] {
  const [head = ""] = name.split("[", 1);
  return [head, ...[...name.matchAll(/\[([^\]]*)\]/g)].map(([, key = ""]) => key)];
}

function place(form: Form, [key = "", ...rest]: string[], value: string): void {
  const name = key === "" ? String(Object.keys(form).length) : key;
  if (rest.length === 0) {
    form[name] = value;
    return;
  }
  const known = form[name];
  const inner: Form = typeof known === "object" && !Array.isArray(known) ? known : {};
  form[name] = inner;
  place(inner, rest, value);
}

/** What is numbered from 0 on is a list. */
function withArrays(value: FormValue): FormValue {
  if (typeof value === "string" || Array.isArray(value)) return value;
  const entries = Object.entries(value).map(([name, inner]) => [name, withArrays(inner)] as const);
  if (entries.length > 0 && entries.every(([name], index) => name === String(index)))
    return entries.map(([, inner]) => inner);
  return Object.fromEntries(entries);
}

/** A parameter that is a plain text; undefined when it is missing. */
export function text(form: Form, name: string): string | undefined {
  const value = form[name];
  return typeof value === "string" ? value : undefined;
}

/** A parameter that is an object; empty when it is missing. */
export function group(form: Form, name: string): Form {
  const value = form[name];
  return typeof value === "object" && !Array.isArray(value) ? value : {};
}

/** A parameter that is a list of objects; empty when it is missing. */
export function groups(form: Form, name: string): Form[] {
  const value = form[name];
  if (!Array.isArray(value)) return [];
  return value.flatMap((item) => (typeof item === "object" && !Array.isArray(item) ? [item] : []));
}

/** A parameter that is a list of texts; empty when it is missing. */
export function texts(form: Form, name: string): string[] {
  const value = form[name];
  return Array.isArray(value) ? value.flatMap((item) => (typeof item === "string" ? [item] : [])) : [];
}
