import { cpSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { addMs, systemClock } from "../../../../platform/clock.ts";
import type { Stamp } from "../../../../platform/config.ts";
import { nowText } from "./clock.ts";
import { refuseLocked } from "./locks.ts";
import { notFound, Refusal } from "./refusal.ts";
import { keyOf } from "./resource-id.ts";
import { page, routesOf, type Route } from "./routing.ts";
import { shareBody, validBody } from "./schema.ts";
import type { Answer, Call, Share, World } from "./world.ts";

const SNAPSHOTS = ".snapshots";

function findAccount(world: World, { params }: Call): Stamp {
  const { subscription = "", group = "", account = "" } = params;
  const stamp = world.stamps.find(
    (one) =>
      one.storageAccount === account &&
      one.subscriptionId.toLowerCase() === subscription.toLowerCase() &&
      one.resourceGroup.toLowerCase() === group.toLowerCase(),
  );
  if (stamp === undefined) throw notFound("Microsoft.Storage/storageAccounts", account, group);
  return stamp;
}

function getAccount(world: World, call: Call): Answer {
  const { storageAccount: name, location } = findAccount(world, call);
  const body = {
    id: call.path,
    name,
    type: "Microsoft.Storage/storageAccounts",
    kind: "FileStorage",
    location,
    sku: { name: "Premium_LRS", tier: "Premium" },
    properties: {
      provisioningState: "Succeeded",
      supportsHttpsTrafficOnly: false,
      primaryEndpoints: { file: `https://${name}.file.core.windows.net/` },
    },
  };
  return { status: 200, body };
}

/** The share, and how a deletion goes on with every request about it. */
function current(world: World, { path: id }: Call): Share | undefined {
  const share = world.shares.get(keyOf(id));
  if (share?.deleting === undefined) return share;
  if (share.deleting > 0) share.deleting -= 1;
  else world.shares.delete(keyOf(id));
  return world.shares.get(keyOf(id));
}

function put(world: World, call: Call): Answer {
  findAccount(world, call);
  const { properties = {} } = validBody(shareBody, call, world.violations);
  const { account = "", share: name = "" } = call.params;
  if (!/^[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]$/.test(name))
    throw new Refusal(400, "InvalidResourceName", `The specifed resource name contains invalid characters: ${name}`);
  const existing = current(world, call);
  refuseDeleting(existing);
  if (call.query.get("$expand") === "snapshots") return putSnapshot(existing, call);
  if (existing !== undefined) {
    existing.properties = { ...existing.properties, ...properties };
    return { status: 200, body: shown(existing) };
  }
  const folder = path.join(world.folder, account, name);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const share: Share = {
    id: call.path,
    name,
    account,
    properties,
    folder,
    createdAt: nowText(),
    snapshots: new Map(),
    deleting: undefined,
  };
  world.shares.set(keyOf(call.path), share);
  return { status: 201, body: shown(share) };
}

function refuseDeleting(share: Share | undefined): void {
  if (share?.deleting === undefined) return;
  throw new Refusal(409, "ShareBeingDeleted", "The specified share is being deleted. Try operation later.");
}

/** Its files lie below `.snapshots` in the share, where NFS clients find them. */
function putSnapshot(share: Share | undefined, call: Call): Answer {
  if (share === undefined) throw missing(call);
  const time = freeTime(share);
  const folder = path.join(share.folder, SNAPSHOTS, time);
  mkdirSync(folder, { recursive: true });
  for (const name of readdirSync(share.folder).filter((one) => one !== SNAPSHOTS))
    cpSync(path.join(share.folder, name), path.join(folder, name), { recursive: true, preserveTimestamps: true });
  share.snapshots.set(time, { folder });
  return { status: 201, body: shown(share, time) };
}

function missing({ params }: Call): Refusal {
  return new Refusal(404, "ShareNotFound", `The specified share does not exist: ${params["share"]}`);
}

/** Snapshots are named by the second that they were taken in. */
function freeTime({ snapshots }: Share): string {
  let at = systemClock.now();
  while (snapshots.has(timeText(at))) at = addMs(at, 1_000);
  return timeText(at);
}

function timeText(at: Date): string {
  return `${at.toISOString().slice(0, 19)}.0000000Z`;
}

/** The snapshot that is asked about, however its time is written. */
function snapshotOf({ headers }: Call): string | undefined {
  const given = headers["x-ms-snapshot"];
  return given === undefined ? undefined : timeText(new Date(String(given)));
}

function get(world: World, call: Call): Answer {
  findAccount(world, call);
  const share = current(world, call);
  const time = snapshotOf(call);
  if (share === undefined || share.deleting !== undefined) throw missing(call);
  if (time !== undefined && !share.snapshots.has(time)) throw missing(call);
  return { status: 200, body: shown(share, time) };
}

function list(world: World, call: Call): Promise<Answer> {
  findAccount(world, call);
  const prefix = `${keyOf(call.path)}/`;
  const shares = [...world.shares].filter(([key, { deleting }]) => key.startsWith(prefix) && deleting === undefined);
  const withSnapshots = call.query.get("$expand")?.includes("snapshots") === true;
  const entries = shares.flatMap(([key, share]): [string, unknown][] => [
    ...(withSnapshots
      ? [...share.snapshots.keys()].map((time): [string, unknown] => [`${key}?${time}`, shown(share, time)])
      : []),
    [key, shown(share)],
  ]);
  return page(world, call, entries, (entry) => entry);
}

function remove(world: World, call: Call): Answer {
  findAccount(world, call);
  refuseLocked(world, call.path);
  const share = current(world, call);
  if (share === undefined) return { status: 204 };
  refuseDeleting(share);
  const time = snapshotOf(call);
  if (time !== undefined) return removeSnapshot(share, time);
  if (share.snapshots.size > 0 && call.query.get("$include") !== "snapshots")
    throw new Refusal(409, "ShareHasSnapshots", "The share has snapshots and the operation requires no snapshots.");
  rmSync(share.folder, { recursive: true, force: true });
  share.deleting = world.settle.deletePolls;
  return { status: 200 };
}

function removeSnapshot(share: Share, time: string): Answer {
  const snapshot = share.snapshots.get(time);
  if (snapshot === undefined) return { status: 204 };
  rmSync(snapshot.folder, { recursive: true, force: true });
  share.snapshots.delete(time);
  return { status: 200 };
}

function shown({ id, name, properties, createdAt }: Share, snapshotTime?: string) {
  return {
    id,
    name,
    type: "Microsoft.Storage/storageAccounts/fileServices/shares",
    etag: '"0x8D589847D51C7DE"',
    properties: {
      shareQuota: 100,
      enabledProtocols: "SMB",
      ...properties,
      lastModifiedTime: createdAt,
      leaseStatus: "unlocked",
      leaseState: "available",
      ...(snapshotTime === undefined ? {} : { snapshotTime }),
    },
  };
}

const { ofGroup } = routesOf("Microsoft.Storage", "2025-08-01");
const SHARES = "storageAccounts/{account}/fileServices/default/shares";

export const STORAGE_ROUTES: readonly Route[] = [
  ofGroup("GET", "storageAccounts/{account}", getAccount),
  ofGroup("PUT", `${SHARES}/{share}`, put),
  ofGroup("GET", `${SHARES}/{share}`, get),
  ofGroup("DELETE", `${SHARES}/{share}`, remove),
  ofGroup("GET", SHARES, list),
];
