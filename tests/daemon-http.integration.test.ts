import assert from "node:assert/strict";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import test from "node:test";
import Stripe from "stripe";
import { createTestDatabase } from "../src/core/testing/database.ts";
import { call, startDaemon } from "./daemon-process.ts";

/** Writes `bytes` to the server and gives all that comes back until it ends the connection. */
async function speak(url: string, bytes: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.write(bytes);
  return text(socket);
}

test("a webhook's body is taken as it came, whatever it is called: signature and secret decide (F92)", async (t) => {
  await using database = await createTestDatabase();
  const secret = "whsec_type";
  const daemon = await startDaemon(t, {
    DATABASE_URL: database.url,
    STRIPE_WEBHOOK_SECRET: secret,
    TELEGRAM_BOT_TOKEN: "4242:real-bot-token",
    TELEGRAM_WEBHOOK_SECRET: "webhook-secret",
    TELEGRAM_API_ROOT: "http://127.0.0.1:9",
  });
  await daemon.saw("working");
  const types = ["nonsense", "", "text/plain", 'application/json; charset="', "multipart/form-data", "a/b/c"];
  for (const [index, type] of [undefined, ...types].entries()) {
    const headers = type === undefined ? {} : { "content-type": type };
    const payload = `{"id":"evt_${index}","type":"customer.created","created":1763632800,"data":{"object":{}}}`;
    const signature = Stripe.webhooks.generateTestHeaderString({ payload, secret });
    const stripe = `${daemon.publicUrl}/webhooks/stripe`;
    const signed = { method: "POST", headers: { ...headers, "stripe-signature": signature }, body: payload } as const;
    assert.equal((await call(stripe, signed)).status, 200, `${type}`);
    const unsigned = await call(stripe, { method: "POST", headers, body: payload });
    assert.deepEqual([unsigned.status, unsigned.json.error.code], [400, "signature_invalid"], `${type}`);
    const told = { ...headers, "x-telegram-bot-api-secret-token": "webhook-secret" };
    const update = { method: "POST", headers: told, body: `{"update_id":${index + 1}}` } as const;
    assert.equal((await call(`${daemon.publicUrl}/webhooks/telegram`, update)).status, 200, `${type}`);
  }
  const { rows } = await database.pool.query("SELECT (SELECT count(*) FROM stripe_events)::int AS events");
  assert.equal(rows[0].events, types.length + 1);
});

test("what is no HTTP is answered with a request id and in the shape of all errors (F90)", async (t) => {
  await using database = await createTestDatabase();
  const daemon = await startDaemon(t, { DATABASE_URL: database.url });
  const token = "12345:secret";
  const malformed: [bytes: string, status: number][] = [
    [`nonsense ${token}\r\n\r\n`, 400],
    [`GET /${token} HTTP/9.9\r\nHost: x\r\n\r\n`, 400],
    [`GET /${token} HTTP/1.1\r\n\r\n`, 400],
    ["POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400],
    ["POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400],
    [`GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${"x".repeat(20_000)}\r\n\r\n`, 431],
  ];
  for (const url of [daemon.publicUrl, daemon.internalUrl]) {
    for (const [bytes, status] of malformed) {
      const answer = await speak(url, bytes);
      const [head = "", body = ""] = answer.split("\r\n\r\n");
      assert.match(head, new RegExp(`^HTTP/1\\.1 ${status} `), bytes.slice(0, 40));
      const requestId = /^x-request-id: ([0-9a-f-]{36})$/im.exec(head)?.[1];
      assert.ok(requestId !== undefined, head);
      const { error } = JSON.parse(body);
      assert.deepEqual([error.code, error.requestId], ["request_invalid", requestId]);
      assert.ok(!answer.includes(token));
    }
  }
  // Never two answers to one request, whichever comes first.
  const answers = await speak(daemon.publicUrl, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n");
  assert.equal(answers.match(/HTTP\/1\.1 /g)?.length, 1, answers);
});
