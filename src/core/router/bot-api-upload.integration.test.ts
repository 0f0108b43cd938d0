import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { PassThrough } from "node:stream";
import test, { type TestContext } from "node:test";
import { startLoopback } from "../testing/fakes/loopback.ts";
import { ALICE, BOB, startGateway } from "./bot-api-test-setup.ts";

const MB = 1024 * 1024;
const TYPE = { "content-type": "multipart/form-data; boundary=cut" };

// As the library of the real runtime writes it: no space after a colon, no quotes around the file's name, no type.
const field = (name: string, value: string) =>
  `--cut\r\ncontent-disposition:form-data;name="${name}"\r\n\r\n${value}\r\n`;
const fileHead = (name: string, filename: string) =>
  `--cut\r\ncontent-disposition:form-data;name="${name}";filename=${filename}\r\n\r\n`;
const file = (name: string, content = "picture", filename = "lobster.jpg") =>
  `${fileHead(name, filename)}${content}\r\n`;
const END = "--cut--\r\n";

async function start(t: TestContext) {
  const gateway = await startGateway(t);
  return { ...gateway, upload: (body: string | Buffer, method = "sendPhoto") => post(gateway, body, method) };
}

function post(
  gateway: Awaited<ReturnType<typeof startGateway>>,
  body: string | Buffer | PassThrough,
  method = "sendPhoto",
) {
  return gateway.send(`${gateway.bot(ALICE)}/${method}`, { method: "POST", headers: TYPE, body });
}

/** In place of Telegram: answers once a request has come whole, and keeps what has come of it so far. */
async function startReceiver(t: TestContext) {
  const requests: { received: string; ended: Promise<"whole" | "cut off">; arrived(text: string): Promise<void> }[] =
    [];
  let onRequest = Promise.withResolvers<void>();
  const server = await startLoopback(async (incoming, response) => {
    const seen = watch(incoming);
    requests.push(seen);
    onRequest.resolve();
    if ((await seen.ended) === "whole")
      response.writeHead(200, { "content-type": "application/json" }).end('{"ok":true,"result":true}');
  });
  t.after(() => server.close());
  return { url: server.url, requests, first: onRequest.promise };
}

function watch(incoming: IncomingMessage) {
  const waiting = new Set<() => void>();
  const seen = {
    received: "",
    ended: new Promise<"whole" | "cut off">((resolve) => {
      incoming.on("end", () => resolve("whole"));
      incoming.on("error", () => resolve("cut off"));
    }),
    async arrived(text: string) {
      while (!seen.received.includes(text)) await new Promise<void>((resolve) => void waiting.add(resolve));
    },
  };
  incoming.on("data", (chunk) => {
    seen.received += String(chunk);
    for (const wake of waiting) wake();
    waiting.clear();
  });
  return seen;
}

test("an upload goes through with its files and fields", async (t) => {
  const { telegram, upload } = await start(t);
  const body =
    field("chat_id", "111") +
    field("photo", "attach://part1") +
    file("part1", "picture", 'my "best" lobster.jpg') +
    END;
  assert.equal((await upload(body)).status, 200);
  assert.equal(telegram.calls[0]?.params["chat_id"], "111");
  assert.deepEqual(telegram.calls[0]?.files["part1"]?.bytes, Buffer.from("picture"));
});

test("names keep their letters and can't break out of the form", async (t) => {
  const { telegram, upload } = await start(t);
  const head = (filename: string) =>
    `--cut\r\nContent-Disposition: form-data; name="photo"; filename="${filename}"\r\nContent-Type: image/jpeg\r\n\r\n`;
  assert.equal((await upload(`${field("chat_id", "111")}${head("hümmer 🦞.jpg")}picture\r\n${END}`)).status, 200);
  assert.equal(telegram.calls[0]?.files["photo"]?.name, "hümmer 🦞.jpg");
  assert.equal((await upload(`${field("chat_id", "111")}${head('a\\"; x="b.jpg')}picture\r\n${END}`)).status, 200);
  assert.deepEqual(Object.keys(telegram.calls[1]?.files ?? {}), ["photo"]);
  assert.deepEqual(Object.keys(telegram.calls[1]?.params ?? {}), ["chat_id"]);
});

test("what an upload names is checked before any of its files is sent (F93)", async (t) => {
  const { telegram, upload, owned } = await start(t);
  owned.add(`${BOB} file bobs-file`);
  const media = (second: unknown) =>
    field("media", JSON.stringify([{ type: "photo", media: "attach://a" }, second])) + file("a") + END;
  const foreign: [string, string, string, number][] = [
    ["other chat", "sendPhoto", field("chat_id", "222") + file("photo") + END, 403],
    ["no chat", "sendPhoto", file("photo") + END, 400],
    ["other chat later", "sendPhoto", field("chat_id", "111") + file("photo") + field("chat_id", "222") + END, 400],
    ["chat after the file", "sendPhoto", file("photo") + field("chat_id", "111") + END, 400],
    ["chat twice", "sendPhoto", field("chat_id", "111") + field("chat_id", "222") + file("photo") + END, 400],
    ["chat as a file", "sendPhoto", file("chat_id", "222") + END, 400],
    ["file for a field", "sendPhoto", field("chat_id", "111") + field("photo", "x") + file("photo") + END, 403],
    ["file of another", "sendMediaGroup", field("chat_id", "111") + media({ type: "photo", media: "bobs-file" }), 403],
    [
      "thumbnail of another",
      "sendMediaGroup",
      field("chat_id", "111") + media({ type: "video", media: "attach://b", thumbnail: "bobs-file" }),
      403,
    ],
    ["no end", "sendMessage", field("chat_id", "111"), 400],
    ["nothing", "sendMessage", "", 400],
    ["no form", "sendMessage", "chat_id=111", 400],
    ["no name", "sendMessage", `--cut\r\ncontent-disposition:form-data\r\n\r\n111\r\n${END}`, 400],
  ];
  for (const [what, method, body, expected] of foreign) {
    const reply = await upload(body, method);
    assert.equal(reply.status, expected, what);
    assert.equal(reply.body.error_code, expected, what);
  }
  assert.deepEqual(telegram.calls, []);
});

test("an album of new files and own ones goes through", async (t) => {
  const { telegram, upload, owned } = await start(t);
  owned.add(`${ALICE} file alices-file`);
  const media = [
    { type: "photo", media: "attach://a" },
    { type: "photo", media: "alices-file" },
  ];
  const body = field("chat_id", "111") + field("media", JSON.stringify(media)) + file("a") + END;
  assert.equal((await upload(body, "sendMediaGroup")).status, 200);
  assert.deepEqual(JSON.parse(String(telegram.calls[0]?.params["media"])), media);
});

test("two files of one name are refused", async (t) => {
  const { telegram, upload } = await start(t);
  assert.equal((await upload(field("chat_id", "111") + file("a", "one") + file("a", "two") + END)).status, 400);
  assert.deepEqual(telegram.calls, []);
});

test("a file goes on to Telegram while it is still arriving", async (t) => {
  const receiver = await startReceiver(t);
  const gateway = await startGateway(t, { apiRoot: receiver.url });
  const body = new PassThrough();
  const reply = post(gateway, body);
  body.write(field("chat_id", "111") + fileHead("photo", "lobster.jpg") + "first half".padEnd(100_000));
  await receiver.first;
  await receiver.requests[0]?.arrived("first half");
  body.end(`second half\r\n${END}`);
  assert.equal((await reply).status, 200);
  assert.match(receiver.requests[0]?.received ?? "", /second half/);
});

test("a caller that hangs up in the middle of a file leaves nothing that looks whole", async (t) => {
  const receiver = await startReceiver(t);
  const gateway = await startGateway(t, { apiRoot: receiver.url });
  const body = new PassThrough();
  const reply = post(gateway, body);
  body.write(field("chat_id", "111") + fileHead("photo", "lobster.jpg") + "first half".padEnd(100_000));
  await receiver.first;
  await receiver.requests[0]?.arrived("first half");
  body.destroy(new Error("gone"));
  await assert.rejects(reply);
  assert.equal(await receiver.requests[0]?.ended, "cut off");
});

test("a form without its end leaves nothing that looks whole", async (t) => {
  const receiver = await startReceiver(t);
  const gateway = await startGateway(t, { apiRoot: receiver.url });
  const cut = field("chat_id", "111") + fileHead("photo", "lobster.jpg") + "first half".padEnd(100_000);
  assert.equal((await post(gateway, cut)).status, 400);
  for (const request of receiver.requests) assert.equal(await request.ended, "cut off");
});

test("a file may have 50 MB and no more", async (t) => {
  const receiver = await startReceiver(t);
  const gateway = await startGateway(t, { apiRoot: receiver.url });
  const withFile = (bytes: number) =>
    Buffer.concat([
      Buffer.from(field("chat_id", "111") + fileHead("document", "big.bin")),
      Buffer.alloc(bytes, "x"),
      Buffer.from(`\r\n${END}`),
    ]);
  assert.equal((await post(gateway, withFile(50 * MB), "sendDocument")).status, 200);
  assert.equal((await post(gateway, withFile(50 * MB + 1), "sendDocument")).status, 413);
  assert.equal(await receiver.requests.at(-1)?.ended, "cut off");
});

test("a tenant has four uploads under way at most, and another tenant its own", async (t) => {
  const receiver = await startReceiver(t);
  const gateway = await startGateway(t, { apiRoot: receiver.url });
  const begun = field("chat_id", "111") + fileHead("photo", "lobster.jpg") + "x".repeat(100_000);
  const bodies = Array.from({ length: 4 }, () => new PassThrough());
  const replies = bodies.map((body) => {
    body.write(begun);
    return post(gateway, body);
  });
  while (receiver.requests.length < 4) await new Promise(setImmediate);

  const fifth = await post(gateway, field("chat_id", "111") + file("photo") + END);
  assert.deepEqual([fifth.status, fifth.body.error_code], [429, 429]);
  assert.equal((await gateway.call(BOB, "sendMessage", { chat_id: 222, text: "x" })).status, 200);
  for (const body of bodies) body.end(`\r\n${END}`);
  for (const reply of replies) assert.equal((await reply).status, 200);
  assert.equal((await post(gateway, field("chat_id", "111") + file("photo") + END)).status, 200);
});

test("Telegram's early refusal of an upload arrives", async (t) => {
  const strict = await startLoopback(async (incoming, response) => {
    const body = '{"ok":false,"error_code":413,"description":"Request Entity Too Large"}';
    response.writeHead(413, { "content-type": "application/json" }).end(body);
    incoming.resume();
  });
  t.after(() => strict.close());
  const gateway = await startGateway(t, { apiRoot: strict.url });
  const { status } = await post(gateway, field("chat_id", "111") + file("photo", "x".repeat(5 * MB)) + END);
  assert.equal(status, 413);
});
