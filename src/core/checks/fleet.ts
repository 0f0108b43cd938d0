import type { Store } from "../context.ts";
import { readFleetStatus } from "../orchestrator/orchestrator.ts";
import { type Check, type CheckResult, ok, warning } from "../platform/check.ts";
import { listDaemons } from "../platform/daemons.ts";

/** An embedded database may have to be started first. */
const TIMEOUT_MS = 60_000;
/** Sweeps are made every minute. */
const SWEEP_LATE_SECONDS = 300;
const PROVISIONING_LATE_MS = 10 * 60_000;

export function fleetChecks(openStore: () => Promise<Store>): Check[] {
  return [
    { name: "daemons", timeoutMs: TIMEOUT_MS, run: async () => checkDaemons(await openStore()) },
    { name: "fleet", timeoutMs: TIMEOUT_MS, run: async () => checkFleet(await openStore()) },
  ];
}

async function checkDaemons({ pool }: Store): Promise<CheckResult> {
  const daemons = await listDaemons(pool);
  if (daemons.length === 0) return warning("none is alive", "Run: openclaw daemon");
  const builds = [...new Set(daemons.map(({ version, build }) => `${version} (${build})`))].toSorted();
  const words = `${daemons.length} alive, version ${builds.join(", ")}`;
  return builds.length === 1 ? ok(words) : warning(words, "Restart those of the older build, once a rollout is over.");
}

/** One sign-up that can't be provisioned must be seen (F33). */
async function checkFleet({ db, clock }: Store): Promise<CheckResult> {
  const { sweep, provisioning, failing } = await readFleetStatus(db);
  if (provisioning !== null && clock.now().getTime() - provisioning.since.getTime() > PROVISIONING_LATE_MS) {
    const trouble = provisioning.trouble ?? "no reason was recorded";
    const remedy = `See: openclaw tenant show ${provisioning.tenant}`;
    return warning(`${provisioning.tenant} has been provisioned for too long: ${trouble}`, remedy);
  }
  if (failing > 0) return warning(`${failing} runtimes fail`, "See: openclaw fleet health");
  if (sweep.orphans.length > 0)
    return warning(`${sweep.orphans.length} runtimes have no tenant`, "See: openclaw fleet reap --dry-run");
  const { ageSeconds, problem } = sweep;
  if (ageSeconds === null) return ok("no sweep yet");
  const words = `last sweep ${Math.round(ageSeconds)} s ago, ${sweep.runtimes} runtimes`;
  if (ageSeconds <= SWEEP_LATE_SECONDS) return ok(words);
  return warning(`${words}${problem === null ? "" : `; since then: ${problem}`}`, "Look at the daemons' logs.");
}
