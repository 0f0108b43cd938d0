import assert from "node:assert/strict";
import test from "node:test";
import { createIdMemory, ownsId, pruneKnownIds } from "./known-ids.ts";
import { setUp } from "./test-setup.ts";

const DAY_MS = 24 * 3_600_000;

test("ids of calls that come together are each remembered for their own tenant, repeats included (F93)", async (t) => {
  const { addTenant, db, clock } = await setUp(t);
  const tenants = await Promise.all([7, 8, 9].map((chat) => addTenant(chat, null)));
  const remember = createIdMemory({ db, clock });
  const file = (id: string) => ({ kind: "file" as const, id });
  await Promise.all(
    tenants.flatMap((tenant) => [
      remember(tenant, [file(`own-${tenant}`), file("twice"), file("twice")]),
      remember(tenant, [file("twice"), file("not\0storable")]),
    ]),
  );
  for (const tenant of tenants) {
    assert.ok(await ownsId(db, tenant, file(`own-${tenant}`)));
    assert.ok(await ownsId(db, tenant, file("twice")));
    for (const other of tenants) if (other !== tenant) assert.ok(!(await ownsId(db, tenant, file(`own-${other}`))));
  }
});

test("an id is kept for 30 days from when it was last seen", async (t) => {
  const { addTenant, db, clock } = await setUp(t);
  const tenant = await addTenant(7, null);
  const remember = createIdMemory({ db, clock });
  const seen = { kind: "file", id: "seen-again" } as const;
  const old = { kind: "file", id: "old" } as const;
  await remember(tenant, [seen, old]);
  clock.advance(20 * DAY_MS);
  await remember(tenant, [seen]);
  clock.advance(11 * DAY_MS);
  await pruneKnownIds({ db, clock }, new AbortController().signal);
  assert.deepEqual([await ownsId(db, tenant, seen), await ownsId(db, tenant, old)], [true, false]);
});
