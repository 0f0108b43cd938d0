/** HTML that was written here or escaped. */
export type Html = { readonly html: string };

const ESCAPES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Every value is escaped, unless it is HTML already; lists are joined. */
export function html(texts: TemplateStringsArray, ...values: readonly (string | Html | readonly Html[])[]): Html {
  return { html: texts.map((text, index) => (index === 0 ? text : render(values[index - 1] ?? "") + text)).join("") };
}

function render(value: string | Html | readonly Html[]): string {
  if (typeof value === "string") return value.replaceAll(/[&<>"']/g, (character) => ESCAPES[character] ?? "");
  return "html" in value ? value.html : value.map((item) => item.html).join("");
}
