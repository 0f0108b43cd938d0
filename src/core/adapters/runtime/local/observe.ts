import { request } from "undici";
import type { TenantId } from "../../../platform/ids.ts";
import { absentRuntime, type ObservedRuntime } from "../runtime-driver.ts";
import { hasCode } from "./files.ts";
import { isAlive } from "./process-identity.ts";
import type { Sighting } from "./supervisor.ts";
import { readProcess, readRecord, tenantPaths, type ProcessRecord, type RuntimeRecord } from "./tenant-folder.ts";

const PROBE_TIMEOUT_MS = 2_000;

/** What really is, from the records, the process and the webhook port; takes no lock and changes nothing. */
export async function observeRuntime(root: string, tenantId: TenantId): Promise<ObservedRuntime> {
  const paths = tenantPaths(root, tenantId);
  const record = await readRecord(paths);
  if (record === undefined) return absentRuntime(tenantId);
  const known = await readProcess(paths);
  if (known === undefined || !(await isAlive(known))) return observeStopped(record, known);
  const problem = await probe(record.webhookPort);
  return {
    tenantId,
    state: problem === undefined ? "running" : "starting",
    address: addressOf(record),
    image: known.image,
    specHash: known.specHash,
    reason: problem,
    drift: [],
  };
}

/** A runtime's last process, alive or not. */
export async function sightProcess(root: string, tenantId: TenantId): Promise<Sighting> {
  const known = await readProcess(tenantPaths(root, tenantId));
  if (known === undefined) return { process: undefined, alive: false, failures: 0 };
  return { process: processKey(known), alive: await isAlive(known), failures: known.failures };
}

export function processKey({ pid, startedAt }: ProcessRecord): string {
  return `${pid}@${startedAt}`;
}

export function describeEnd(known: ProcessRecord | undefined): string {
  if (known === undefined) return "not started yet";
  const times = known.failures === 0 ? "" : `, after ${known.failures} starts in vain`;
  return `the process ${known.lastExit ?? "is gone"}${times}; it will be started again`;
}

function observeStopped(record: RuntimeRecord, known: ProcessRecord | undefined): ObservedRuntime {
  const { spec, desired, failure } = record;
  const base = { tenantId: spec.tenantId, image: "", specHash: spec.hash, drift: [] };
  if (desired === "asleep") return { ...base, state: "asleep", address: undefined, reason: undefined };
  if (failure !== null) return { ...base, state: "failed", address: undefined, reason: failure };
  return { ...base, state: "starting", address: addressOf(record), reason: describeEnd(known) };
}

function addressOf({ webhookPort }: RuntimeRecord): string {
  return `http://127.0.0.1:${webhookPort}`;
}

/** Why the webhook listener isn't healthy; undefined when it is. The gateway's own readiness is no sign of it (F47). */
async function probe(port: number): Promise<string | undefined> {
  try {
    const { statusCode, body } = await request(`http://127.0.0.1:${port}/healthz`, {
      headersTimeout: PROBE_TIMEOUT_MS,
      bodyTimeout: PROBE_TIMEOUT_MS,
      reset: true,
    });
    const text = await body.text();
    return statusCode === 200 && text.trim() === "ok"
      ? undefined
      : `its webhook listener answers ${statusCode} to the health check`;
  } catch (error) {
    return hasCode(error, "ECONNREFUSED")
      ? "its webhook listener is not up yet"
      : "its webhook listener does not answer the health check";
  }
}
