import { hash } from "node:crypto";
import { html, type Html } from "./html.ts";

/** A whole page with its status; everything in it was escaped. */
export type Page = { status: number; html: string };

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2126; --soft: #59636e; --page: #f3f4f6; --card: #fff; --line: #d5dae0; --go: #0a5bd3; --on-go: #fff; --good: #18794e; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a4adb8; --page: #111417; --card: #1b1f24; --line: #363d45; --go: #8ab4f8; --on-go: #10151c; --good: #6fd3a0; --bad: #f2938c; }
}
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; background: var(--page); color: var(--ink); font: 1.0625rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 32rem; margin: 0 auto; padding: 1.25rem 1rem 3rem; }
section { --mark: var(--go); background: linear-gradient(var(--mark), var(--mark)) top / 100% 4px no-repeat var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.25rem; }
section.good { --mark: var(--good); }
section.bad { --mark: var(--bad); }
h1 { margin: 0 0 .75rem; font-size: 1.5rem; line-height: 1.25; }
p, ul { margin: 0 0 1rem; }
ul { padding-left: 1.25rem; }
li { margin: .25rem 0; }
.note { border-left: 3px solid var(--line); padding-left: .75rem; }
.soft { color: var(--soft); font-size: .9375rem; }
section > :last-child { margin-bottom: 0; }
button { display: block; width: 100%; min-height: 3rem; margin: 0 0 1rem; padding: .75rem 1rem; border: 0; border-radius: 10px; background: var(--go); color: var(--on-go); font: inherit; font-weight: 600; cursor: pointer; }
button:focus-visible { outline: 3px solid var(--ink); outline-offset: 2px; }
@media (min-width: 40rem) { main { padding-top: 12vh; } section { padding: 2rem; } }
`;

/** In one piece: its policy names the hash of what stands between the tags. */
const STYLE_TAG: Html = { html: `<style>${STYLE}</style>` };

/**
 * Nothing is loaded and nothing runs. A form is followed by the provider's redirects, which Chromium holds against `form-action`, and
 * where a provider sends people on to, such as their company's sign-in, nobody knows beforehand: hence any https.
 */
const POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${hash("sha256", STYLE, "base64")}'`,
  "base-uri 'none'",
  "frame-ancestors 'none'",
];

/** `formTarget`: an origin without https that the page's form leads to, such as a provider's on loopback. */
export function pageHeaders(formTarget?: string): Record<string, string> {
  const formAction = ["form-action 'self' https:", ...(formTarget === undefined ? [] : [formTarget])].join(" ");
  return {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": [...POLICY, formAction].join("; "),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    // Without a referrer a browser would not say where a form was sent from.
    "referrer-policy": "same-origin",
    "x-robots-tag": "noindex, nofollow",
  };
}

export type PageTone = "ask" | "good" | "bad";

export function renderPage(page: { status: number; title: string; tone: PageTone; body: readonly Html[] }): Page {
  const { status, title, tone, body } = page;
  const whole = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${title}</title>
        ${STYLE_TAG}
      </head>
      <body>
        <main>
          <section class="${tone}">
            <h1>${title}</h1>
            ${body}
          </section>
        </main>
      </body>
    </html> `;
  return { status, html: whole.html };
}
