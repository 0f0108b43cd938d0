import type { ContainerApp } from "@azure/arm-appcontainers";

/** Compared letter by letter; all else is ids and enumerations, which come back in other cases. */
const EXACT = new Set(["value", "image", "args", "path", "mountPath", "subPath"]);
/** What an array's items are told apart by, where their order means nothing. */
const KEYS = ["name", "volumeName", "server", "identity", "type", "secretRef"] as const;

/** What is looked at, with the word that an operator reads for it. */
const ASPECTS: readonly [word: string, pick: (app: ContainerApp) => unknown][] = [
  ["image", (app) => app.template?.containers?.map(({ image }) => ({ image }))],
  ["environment", (app) => app.template?.containers?.map(({ env }) => env)],
  ["resources", (app) => app.template?.containers?.map(({ resources }) => resources)],
  ["command", (app) => app.template?.containers?.map(({ args, command }) => [args ?? [], command ?? []])],
  ["probes", (app) => app.template?.containers?.map(({ probes }) => probes)],
  ["volumes", (app) => [app.template?.volumes, app.template?.containers?.map(({ volumeMounts }) => volumeMounts)]],
  ["scale", (app) => app.template?.scale],
  ["ingress", (app) => app.configuration?.ingress],
  ["secrets", (app) => app.configuration?.secrets?.map(({ value: _value, ...rest }) => rest)],
  ["registries", (app) => app.configuration?.registries ?? []],
  ["identity", (app) => [app.identity?.userAssignedIdentities, app.configuration?.identitySettings ?? []]],
  ["revision mode", (app) => app.configuration?.activeRevisionsMode],
  ["environment id", (app) => app.environmentId],
];

/** Aspects of which a change makes another revision. */
const OF_THE_TEMPLATE = new Set(["image", "environment", "resources", "command", "probes", "volumes", "scale"]);

/** In what an app differs from what we would make; what Azure adds of its own, such as defaults, is none of it. */
export function driftOf(expected: ContainerApp, observed: ContainerApp): string[] {
  return ASPECTS.filter(([, pick]) => !covers(pick(expected), pick(observed))).map(([word]) => word);
}

export function isOfTheTemplate(aspect: string): boolean {
  return OF_THE_TEMPLATE.has(aspect);
}

/** Whether all that `expected` says is so in `observed`. Lists must have the same items, objects may have more keys. */
function covers(expected: unknown, observed: unknown, key = ""): boolean {
  if (expected === undefined || expected === null) return true;
  if (Array.isArray(expected)) return coversItems(expected, observed, key);
  if (typeof expected === "object") {
    if (typeof observed !== "object" || observed === null) return false;
    const found = new Map(Object.entries(observed).map(([name, value]) => [name.toLowerCase(), value as unknown]));
    const names = Object.keys(expected);
    // Identities are the keys themselves: one more is somebody else's.
    if (names.some((name) => name.startsWith("/")) && names.length !== found.size) return false;
    return Object.entries(expected).every(([name, value]) => covers(value, found.get(name.toLowerCase()), name));
  }
  if (typeof expected === "string" && typeof observed === "string" && !EXACT.has(key))
    return expected.toLowerCase() === observed.toLowerCase();
  return expected === observed;
}

function coversItems(expected: readonly unknown[], observed: unknown, key: string): boolean {
  const found: unknown[] = Array.isArray(observed) ? observed : [];
  if (expected.length !== found.length) return false;
  const sorted = found.toSorted(byKey);
  return expected.toSorted(byKey).every((item, index) => covers(item, sorted[index], key));
}

function byKey(one: unknown, other: unknown): number {
  return keyOf(one).localeCompare(keyOf(other));
}

function keyOf(item: unknown): string {
  if (typeof item !== "object" || item === null) return "";
  for (const key of KEYS) {
    const value: unknown = Reflect.get(item, key);
    if (typeof value === "string") return value.toLowerCase();
  }
  return "";
}
