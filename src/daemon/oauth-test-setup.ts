import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { request } from "undici";
import { connectUrl } from "../core/integrations/integrations.ts";
import { MAIL, openStage } from "../core/integrations/connect-test-setup.ts";
import type { IntegrationsContext } from "../core/integrations/integrations.ts";
import type { Db } from "../core/platform/db.ts";
import type { TenantId } from "../core/platform/ids.ts";
import type { Decision } from "../core/testing/fakes/oauth/oauth-server.ts";
import { createServer, listen } from "./http.ts";
import { registerOAuth } from "./oauth.ts";

export type Answer = { status: number; headers: Record<string, string | string[] | undefined>; html: string };

/** A browser as far as it matters here: it keeps cookies, says where a form comes from, and follows nothing by itself. */
export function createBrowser() {
  const cookies = new Map<string, string>();

  async function send(
    url: URL,
    options: { method: "GET" | "POST" | "HEAD"; headers?: Record<string, string>; body?: string },
  ): Promise<Answer> {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const { statusCode, headers, body } = await request(url, {
      method: options.method,
      headers: { ...(cookie === "" ? {} : { cookie }), ...options.headers },
      ...(options.body === undefined ? {} : { body: options.body }),
    });
    for (const set of [headers["set-cookie"] ?? []].flat()) keep(set);
    return { status: statusCode, headers, html: await body.text() };
  }

  function keep(set: string): void {
    const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(set) ?? [];
    if (/; Max-Age=0\b/.test(set)) cookies.delete(name);
    else cookies.set(name, value);
  }

  return {
    cookies,
    get: (url: URL | string) => send(new URL(url), { method: "GET" }),
    head: (url: URL | string) => send(new URL(url), { method: "HEAD" }),
    /** Submits the form of the start page. */
    confirm: (link: string, headers: Record<string, string> = { "sec-fetch-site": "same-origin" }) =>
      send(new URL(link.replace(/\?.*/, "")), {
        method: "POST",
        headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
        body: new URLSearchParams({ link: new URL(link).searchParams.get("link") ?? "" }).toString(),
      }),
  };
}

/** Where an answer leads. */
export function locationOf({ headers }: Answer): URL {
  const { location } = headers;
  if (typeof location !== "string") throw new Error("it leads nowhere");
  return new URL(location);
}

export type PageOptions = NonNullable<Parameters<typeof openStage>[2]>;

/** The pages as a daemon of role web serves them, at a provider on loopback. */
export async function openPages(t: TestContext, db: Db, options: PageOptions = {}) {
  const stage = await openStage(t, db, options);

  /** One more daemon; `publicUrl` unless its own address. */
  async function serve(ctx: IntegrationsContext = stage.ctx, publicUrl?: string): Promise<string> {
    const app = createServer(stage.ctx.log);
    const reached = { url: publicUrl };
    await app.register((scope) => registerOAuth(scope, { ctx, publicUrl: () => reached.url ?? "" }));
    t.after(() => app.close());
    const address = await listen(app, { host: "127.0.0.1", port: 0 });
    reached.url ??= address;
    return address;
  }

  const url = await serve();
  const newLink = async (tenantId: TenantId, provider = MAIL) =>
    connectUrl(url, provider, await stage.link(tenantId, provider));

  return {
    ...stage,
    url,
    serve,
    newLink,
    /** Confirms the link and consents. @returns where the provider sends the browser. */
    async consent(browser: ReturnType<typeof createBrowser>, link: string, decision?: Decision): Promise<URL> {
      return stage.server.consent(locationOf(await browser.confirm(link)), decision);
    },
    /** Every row that tells of a connection, and every secret of one. */
    async traces() {
      const connections = await db.selectFrom("connections").select("tenantId").execute();
      return { connections: connections.length, secrets: (await stage.vault.list("connection-")).length };
    },
  };
}

/** The pages, a tenant with a link, and a browser for it. To be used with a database in which there is nobody else. */
export async function openStart(t: TestContext, db: Db, options: PageOptions = {}) {
  const pages = await openPages(t, db, options);
  const tenantId = await pages.newTenant();
  return {
    ...pages,
    tenantId,
    browser: createBrowser(),
    start: await pages.newLink(tenantId),
    /** Nothing came of whatever was tried. */
    async refused(answer: { status: number; html: string }, status: number, title: RegExp) {
      assert.equal(answer.status, status, answer.html);
      assert.match(answer.html, /^<!doctype html>/);
      assert.match(/<h1>(.*?)<\/h1>/.exec(answer.html)?.[1] ?? "", title);
      assert.deepEqual(await pages.traces(), { connections: 0, secrets: 0 });
    },
  };
}
