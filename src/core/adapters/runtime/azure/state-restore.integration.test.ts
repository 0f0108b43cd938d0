import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test, { type TestContext } from "node:test";
import { COPY, SWAP } from "./state-restore.ts";

const COMMANDS = ["cp", "find", "mv", "rm", "sync"];
const PATH = "/usr/bin:/bin";
/** Stands in for each command: the nth of all of them ends the shell that runs the script, before or after doing its work. */
const FATAL = `#!/bin/sh
count=$(($(cat "$COUNT") + 1))
echo "$count" > "$COUNT"
if [ "$count.$WHEN" = "$NTH.before" ]; then kill -9 "$SHELL_ID"; exit; fi
PATH=${PATH} "$(basename "$0")" "$@"
code=$?
if [ "$count.$WHEN" = "$NTH.after" ]; then kill -9 "$SHELL_ID"; fi
exit "$code"
`;

/** A share with a tenant's state, its snapshot and a neighbour; and shells that work on it. */
async function openShare(t: TestContext) {
  const root = await mkdtemp(path.join(tmpdir(), "openclaw-restore-"));
  t.after(() => rm(root, { recursive: true, force: true }));
  const bin = path.join(root, "bin");
  const share = path.join(root, "share");
  const snapshot = path.join(share, ".snapshots", "2026-03-01T12:00:00.0000000Z");
  const count = path.join(root, "count");
  await mkdir(bin);
  for (const name of COMMANDS) await writeFile(path.join(bin, name), FATAL, { mode: 0o755 });
  const folder = (...within: string[]) => path.join(share, "tenants", ...within);
  const run = (script: string, RUN: string, env: Record<string, string> = { PATH }) => {
    const place = { SHARE: share, FOLDER: "tenants/alice", SNAPSHOT: "2026-03-01T12:00:00", RUN };
    return spawnSync("/bin/sh", ["-ec", script], { env: { ...place, ...env }, encoding: "utf8" });
  };
  return {
    folder,
    run,
    async reset() {
      await rm(share, { recursive: true, force: true });
      for (const [place, text] of [
        [folder("alice", "deep"), "old"],
        [folder("alice-2"), "other"],
        [path.join(snapshot, "tenants", "alice", "deep"), "new"],
      ] as const) {
        await mkdir(place, { recursive: true });
        await writeFile(path.join(place, "memory"), text);
      }
    },
    async runCutOff(script: string, RUN: string, cut: { NTH: string; WHEN: string }) {
      await writeFile(count, "0");
      const { signal, status } = run(`export SHELL_ID=$$\n${script}`, RUN, {
        PATH: `${bin}:${PATH}`,
        COUNT: count,
        ...cut,
      });
      return { wasCut: signal === "SIGKILL", status };
    },
    /** Under whatever names whole states lie there. */
    async states(): Promise<Map<string, string>> {
      const names = (await readdir(folder())).filter((name) => existsSync(folder(name, "deep", "memory")));
      return new Map(
        await Promise.all(
          names.map(async (name) => [name, await readFile(folder(name, "deep", "memory"), "utf8")] as const),
        ),
      );
    },
  };
}

test("a restoration cut off before or after each of its commands leaves a whole state, which the next one finds", async (t) => {
  const { folder, run, reset, runCutOff, states } = await openShare(t);
  /** @returns whether it came so far that it could be cut off there. */
  async function cutOff(script: string, cut: { NTH: string; WHEN: string }): Promise<boolean> {
    await reset();
    if (script === SWAP) assert.equal(run(COPY, "one").status, 0);
    const { wasCut, status } = await runCutOff(script, "one", cut);
    assert.ok(wasCut || status === 0);
    const left = await states();
    const moved = [...left.keys()].filter((name) => name.startsWith("alice.replaced-"));
    if (script === COPY) assert.equal(left.get("alice"), "old");
    else assert.ok(left.has("alice") || (moved.length === 1 && left.get("alice.restored-one") === "new"));
    // Begun anew, and the last part twice, as after an answer that was lost.
    for (const again of [COPY, SWAP, SWAP]) assert.equal(run(again, "two").status, 0);
    assert.equal((await states()).get("alice"), "new");
    assert.ok(!(await readdir(folder())).some((name) => name.includes(".replaced-")));
    assert.equal(await readFile(folder("alice-2", "memory"), "utf8"), "other");
    return wasCut;
  }
  let cuts = 0;
  for (const script of [COPY, SWAP])
    for (const WHEN of ["before", "after"])
      for (let nth = 1; await cutOff(script, { NTH: String(nth), WHEN }); nth += 1) cuts += 1;
  assert.equal(cuts, 2 * (7 + 4), "each command of both");
});

test("a copy that is not what the snapshot has is not taken for it, and its numbers are in the log", async (t) => {
  const { folder, run, reset } = await openShare(t);
  await reset();
  assert.match(run(COPY, "one").stdout, /in the snapshot: 1 3\nfiles and bytes in the copy: 1 3\n/);
  const losing = COPY.replace("\nsync\n", '\nrm "$to/deep/memory"\n');
  assert.equal(run(losing, "two").status, 1);
  const cutting = COPY.replace("\nsync\n", '\nprintf n > "$to/deep/memory"\n');
  assert.equal(run(cutting, "three").status, 1);
  assert.equal(run(COPY, "four", { PATH, FOLDER: "tenants/bob" }).stdout, "the snapshot has no tenants/bob\n");
  assert.equal(run(COPY, "five", { PATH, SNAPSHOT: "2026-03-02" }).status, 1);
  assert.equal(await readFile(folder("alice", "deep", "memory"), "utf8"), "old");
});
