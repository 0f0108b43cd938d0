import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test, { type TestContext } from "node:test";
import type { ProviderId, TenantId } from "../core/platform/ids.ts";
import { createLog } from "../core/platform/log.ts";
import { openRedis } from "../core/platform/redis.ts";
import { createTokenLimit, type TokenLimit } from "./token-limit.ts";

const GMAIL = "gmail" as ProviderId;
const log = createLog("error", { write: () => true });

async function connected(t: TestContext) {
  const redis = openRedis(process.env["OPENCLAW_TEST_REDIS_URL"] ?? "", log);
  t.after(() => redis.disconnect());
  await new Promise((resolve) => redis.once("ready", resolve));
  return redis;
}

/** How many of 40 askings, at each of them in turn, may go on. */
async function countAllowed(limits: readonly TokenLimit[], tenantId: TenantId): Promise<number> {
  let allowed = 0;
  for (let nth = 0; nth < 40; nth += 1)
    if ((await limits[nth % limits.length]?.take(tenantId, GMAIL)) === 0) allowed += 1;
  return allowed;
}

test("with Redis 30 tokens a minute are given by all daemons together, wherever they are asked for", async (t) => {
  const countDaemons = async () => 2;
  const limits = [
    createTokenLimit({ redis: await connected(t), countDaemons }),
    createTokenLimit({ redis: await connected(t), countDaemons }),
  ];
  assert.equal(await countAllowed(limits, randomUUID() as TenantId), 30);
  assert.equal(await countAllowed(limits.slice(1), randomUUID() as TenantId), 30);
});

test("while Redis is away each daemon gives its part", async (t) => {
  const redis = await connected(t);
  const limit = createTokenLimit({ redis, countDaemons: async () => 3 });
  redis.disconnect();
  assert.equal(await countAllowed([limit], randomUUID() as TenantId), 10);
});
