import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { documentOf, expectCode } from "./command.ts";
import { call, type Daemon } from "./daemon-process.ts";
import { openIntegrationsStage } from "./integrations-stage.ts";

const EVERYWHERE = { OPENCLAW_PUBLIC_LISTEN: "127.0.0.1:0" };

async function setUp(t: TestContext) {
  const stage = await openIntegrationsStage(t);
  await stage.addTenant("ann");
  const one = await stage.startDaemon();
  const other = await stage.startDaemon(EVERYWHERE);
  const { publicUrl } = one;

  /** At one daemon. @returns how the browser comes back, at whichever. */
  async function begin(link: string) {
    const { origin, pathname, searchParams } = new URL(link);
    const body = new URLSearchParams({ link: searchParams.get("link") ?? "" }).toString();
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const begun = await call(origin + pathname, { method: "POST", headers, body });
    assert.equal(begun.status, 303, begun.text);
    const [cookie = ""] = String(begun.headers["set-cookie"]).split(";");
    const back = stage.provider.consent(new URL(String(begun.headers.location)));
    return (daemon: Daemon) => call(back.href.replace(publicUrl, daemon.publicUrl), { headers: { cookie } });
  }

  return {
    ...stage,
    one,
    other,
    begin,
    async newLink(): Promise<string> {
      const { stdout } = expectCode(await stage.openclaw("integration", "connect", "ann", "gmail"), 0);
      return stdout.trim();
    },
    connections: async () => documentOf(expectCode(await stage.openclaw("integration", "list", "--json"), 0)),
  };
}

async function kill({ child, exit }: Daemon): Promise<void> {
  child.kill("SIGKILL");
  await exit;
}

test("what a daemon began that is gone by now, another finishes (F71)", async (t) => {
  const { one, other, begin, newLink } = await setUp(t);
  const finish = await begin(await newLink());
  await kill(one);
  const { status, text } = await finish(other);
  assert.equal(status, 200, text);
  assert.match(text, /Gmail is connected/);
});

test("a daemon that dies while a code is exchanged leaves the connection as it was, and the link may be used again", async (t) => {
  const { other, one, begin, newLink, connections, provider } = await setUp(t);
  const finishFirst = await begin(await newLink());
  assert.equal((await finishFirst(one)).status, 200);
  const before = await connections();
  const link = await newLink();
  const finish = await begin(link);
  const held = provider.hold("token", "after");
  const cutOff = finish(other).then(
    () => "answered",
    () => "cut off",
  );
  await held.reached;
  await kill(other);
  held.release();
  assert.equal(await cutOff, "cut off");
  assert.deepEqual(await connections(), before);
  const replayed = await finish(one);
  assert.deepEqual([replayed.status, /opened before/.test(replayed.text)], [410, true]);
  const again = await begin(link);
  assert.match((await again(one)).text, /Gmail is connected/);
});

test("the pages are on the public listener, and on no other", async (t) => {
  const stage = await openIntegrationsStage(t);
  const daemon = await stage.startDaemon(EVERYWHERE);
  for (const path of ["start", "callback"])
    assert.equal((await call(`${daemon.internalUrl}/oauth/gmail/${path}`)).status, 404);
  assert.match((await call(`${daemon.publicUrl}/oauth/gmail/start`)).text, /This link does not work/);
});
