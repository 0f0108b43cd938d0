import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { createTestDatabase } from "../core/testing/database.ts";
import { startLoopback } from "../core/testing/fakes/loopback.ts";
import { openPages } from "./oauth-test-setup.ts";

const PHONE = { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let browser: Browser;
before(async () => {
  database = await createTestDatabase();
  const executablePath = process.env["OPENCLAW_TEST_CHROMIUM"] ?? "";
  // Containers have neither a sandbox nor much shared memory.
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
});
after(async () => {
  await browser.close();
  await database[Symbol.asyncDispose]();
});

async function setUp(t: TestContext, options: BrowserContextOptions = {}) {
  const context = await browser.newContext({ ...PHONE, ...options });
  // Before the servers, which wait for whoever is connected.
  t.after(() => context.close());
  const pages = await openPages(t, database.db);
  const tenantId = await pages.newTenant();
  const page = await context.newPage();
  page.setDefaultTimeout(5_000);
  const complaints: string[] = [];
  // What a policy forbids, Chromium says on the console; there, too, that an address, such as an icon's, has no page.
  page.on("console", (message) => {
    if (!message.text().startsWith("Failed to load resource")) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  return { ...pages, tenantId, page, complaints, start: await pages.newLink(tenantId) };
}

const heading = (page: Page) => page.locator("h1").innerText();

/** Readable as it is: nothing to be scrolled sideways for, nothing that runs, a button that a thumb hits. */
async function assertPlain(page: Page): Promise<void> {
  const width = await page.evaluate<number>("document.documentElement.scrollWidth");
  assert.ok(width <= PHONE.viewport.width, `${await heading(page)} is ${width} px wide`);
  assert.equal(await page.locator("script").count(), 0);
  assert.ok(Number.parseFloat(await styleOf(page, "p", "font-size")) >= 15);
  for (const button of await page.locator("button").all()) {
    const box = await button.boundingBox();
    assert.ok(box !== null && box.height >= 44, "the button is high enough for a thumb");
  }
}

function styleOf(page: Page, selector: string, property: string): Promise<string> {
  return page.evaluate<string>(
    `getComputedStyle(document.querySelector("${selector}")).getPropertyValue("${property}")`,
  );
}

// Without JavaScript: with it, nothing more happens, as a person who declines finds below.
test("a person opens the link, confirms, agrees and reads that it worked", async (t) => {
  const { page, start, complaints, find, tenantId, ann } = await setUp(t, { javaScriptEnabled: false });
  await page.goto(start);
  assert.equal(await heading(page), "Connect Gmail");
  await assertPlain(page);
  await page.getByRole("button", { name: "Continue to Gmail" }).tap();
  await page.getByRole("button", { name: "Allow" }).click();
  await page.waitForURL(/callback/);
  assert.equal(await heading(page), "Gmail is connected");
  assert.ok((await page.locator("main").innerText()).includes(ann.email));
  await assertPlain(page);
  assert.equal((await find(tenantId))?.state, "active");
  assert.deepEqual(await page.context().cookies(), []);
  assert.deepEqual(complaints, []);
});

test("the pages follow the person's light and dark, with enough contrast in both", async (t) => {
  const { page, start } = await setUp(t);
  await page.goto(start);
  const grounds = new Set<string>();
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    grounds.add(await styleOf(page, "section", "background-color"));
    for (const [text, ground] of [
      ["p", "section"],
      [".soft", "section"],
      ["button", "button"],
    ] as const) {
      const ratio = contrast(await styleOf(page, text, "color"), await styleOf(page, ground, "background-color"));
      assert.ok(ratio >= 4.5, `${text} in ${colorScheme} has a contrast of ${ratio}`);
    }
  }
  assert.equal(grounds.size, 2);
});

test("a person who declines reads so, goes back to the link and connects after all", async (t) => {
  const { page, start, find, tenantId, complaints } = await setUp(t);
  await page.goto(start);
  await page.getByRole("button").tap();
  await page.getByRole("button", { name: "Deny" }).click();
  await page.waitForURL(/callback/);
  assert.equal(await heading(page), "Access was not given");
  await assertPlain(page);
  assert.equal(await find(tenantId), undefined);
  await page.goto(start);
  await page.getByRole("button").tap();
  await page.getByRole("button", { name: "Allow" }).click();
  await page.waitForURL(/callback/);
  assert.equal(await heading(page), "Gmail is connected");
  // Somebody reloads the page, or comes back to it.
  await page.reload();
  assert.equal(await heading(page), "This page was opened before");
  assert.deepEqual(complaints, []);
});

test("another site's form does not get past the browser, and no site gets the page into a frame", async (t) => {
  const { page, start, find, tenantId } = await setUp(t);
  const { origin, pathname, searchParams } = new URL(start);
  const form = `<form method="post" action="${origin}${pathname}"><input name="link" value="${searchParams.get("link")}"><button>Win</button></form>`;
  const evil = await startLoopback(async (_request, response) => {
    response.setHeader("content-type", "text/html").end(`${form}<iframe src="${start}"></iframe>`);
  });
  t.after(() => evil.close());
  await page.goto(evil.url.replace("127.0.0.1", "localhost"));
  assert.equal(await page.frameLocator("iframe").locator("h1", { hasText: "Connect Gmail" }).count(), 0);
  await page.getByRole("button", { name: "Win" }).click();
  await page.waitForURL(`${origin}${pathname}`);
  assert.equal(await heading(page), "That did not come from our page");
  assert.equal(await find(tenantId), undefined);
});

test("long names and the pages of refusal stay within a small screen", async (t) => {
  const { page, start, url, tenantId } = await setUp(t);
  const name = `${"Wolfeschlegelsteinhausenbergerdorff".repeat(4)} <b>& "Söhne"</b>`;
  await database.pool.query("UPDATE tenants SET display_name = $2 WHERE id = $1", [tenantId, name]);
  await page.goto(start);
  await assertPlain(page);
  assert.ok((await page.locator("main").innerText()).includes('<b>& "Söhne"</b>'));
  for (const address of [
    `${url}/oauth/gmail/start?link=x`,
    `${url}/oauth/gmail/callback?state=x`,
    `${url}/oauth/x/start`,
  ]) {
    await page.goto(address);
    await assertPlain(page);
  }
});

/** WCAG 2.1, of two colours as a browser computes them. */
function contrast(one: string, other: string): number {
  const [dark = 0, light = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

function luminance(color: string): number {
  const channels = (color.match(/[\d.]+/g) ?? []).slice(0, 3).map((text) => {
    const value = Number(text) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  const [red = 0, green = 0, blue = 0] = channels;
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
