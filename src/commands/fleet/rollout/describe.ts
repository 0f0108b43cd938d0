import { describeContent, type RolloutPreview, type RolloutProgress } from "../../../core/orchestrator/orchestrator.ts";
import { formatAge } from "../../route/view.ts";
import { formatTime } from "../../tenant/view.ts";

/** How many of those on their way are named. */
const NAMED = 3;

/** How many have got where they were to get, or never will. */
export function countDone({ counts }: Pick<RolloutProgress, "counts">): number {
  return counts.healthy + counts["moved-asleep"] + counts["rolled-back"] + counts.failed + counts.skipped;
}

export function percentDone(of: Pick<RolloutProgress, "counts" | "tenants">): number {
  return of.tenants === 0 ? 100 : Math.floor((countDone(of) * 100) / of.tenants);
}

const WORDS: readonly (readonly [state: keyof RolloutProgress["counts"], word: string])[] = [
  ["healthy", "healthy"],
  ["moved-asleep", "moved asleep"],
  ["rolled-back", "rolled back"],
  ["failed", "failed for good"],
  ["skipped", "skipped"],
  ["moving", "on their way"],
  ["rolling-back", "on their way back"],
  ["pending", "to come"],
];

/** Such as `55 healthy, 2 moved asleep, 5 on their way, 58 to come`. */
export function describeCounts({ counts }: Pick<RolloutProgress, "counts">): string {
  const parts = WORDS.filter(([state]) => counts[state] > 0).map(([state, word]) => `${counts[state]} ${word}`);
  return parts.join(", ") || "nobody to move";
}

/** One line, such as `rollout 4 is running, 62 of 120: 55 healthy, …`. */
export function summarise(progress: RolloutProgress): string {
  const { kind, id, status, tenants } = progress;
  return `${kind} ${id} is ${status}, ${countDone(progress)} of ${tenants}: ${describeCounts(progress)}`;
}

/** What it would take for it to go on. */
export function describeWaiting(progress: RolloutProgress, now: Date): string {
  const { status, reason, underWay, counts, toGoBack } = progress;
  if (underWay.length > 0) {
    const named = underWay.slice(0, NAMED).map(({ tenant, since, trouble }) => {
      return `${tenant} (${formatAge(since, now)}${trouble === null ? "" : `: ${trouble}`})`;
    });
    return underWay.length > NAMED ? `${named.join(", ")} and ${underWay.length - NAMED} more` : named.join(", ");
  }
  if (toGoBack > 0) return `its next step, which a daemon with the role worker takes: ${toGoBack} are to go back`;
  switch (status) {
    case "running":
      return "its next step, which a daemon with the role worker takes";
    case "paused":
      return `openclaw fleet rollout resume (paused: ${reason ?? "no reason given"})`;
    case "halted":
      return `openclaw fleet rollout resume --max-failures …, or abort (halted: ${reason ?? "no reason given"})`;
    case "finished":
    case "aborted":
      return counts["moved-asleep"] > 0 ? "nothing; who was moved asleep is looked at when it wakes" : "nothing";
  }
}

/** What is worth a line each, by name. */
export function describeProgress(progress: RolloutProgress, now: Date): (readonly [string, string])[] {
  const { kind, id, status, reason, release, startedAt, startedBy, endedAt } = progress;
  const { tenants, failures, maxFailures, parallel, perMinute, elsewhere } = progress;
  const ended = endedAt === null ? "" : `, ended ${formatTime(endedAt)}`;
  return [
    [kind, `${id}, ${status}${reason === null ? "" : `: ${reason}`}`],
    ["release", `${release.id}: ${describeContent(release)}`],
    ["whom", describeSelector(progress)],
    ["began", `${formatTime(startedAt)} by ${startedBy}${ended}`],
    ["progress", `${countDone(progress)} of ${tenants} (${percentDone(progress)} %): ${describeCounts(progress)}`],
    ["failures", `${failures}; ${maxFailures} halt it`],
    ["pace", `${perMinute} a minute, at most ${parallel} at once`],
    ["waits for", describeWaiting(progress, now)],
    ...(status !== "finished" || elsewhere === 0
      ? []
      : [["elsewhere", `${elsewhere} are to run another release; see: openclaw fleet settings show`] as const]),
  ];
}

function describeSelector({ selector: { status, tier, tag } }: RolloutProgress): string {
  const parts = [
    ...(status === undefined ? [] : [status.join(" or ")]),
    ...(tier === undefined ? [] : [`tier ${tier}`]),
    ...(tag === undefined ? [] : [`tag ${tag}`]),
  ];
  return parts.length === 0 ? "everybody" : `${parts.join(", ")}; what new tenants get stays as it is`;
}

/** What would be done, in lines. */
export function describePreview({ from, to, releaseId, cohorts }: RolloutPreview): string[] {
  const total = cohorts.reduce((sum, { tenants }) => sum + tenants.length, 0);
  return [
    `From ${describeContent(from)}`,
    `to ${describeContent(to)} (${releaseId === undefined ? "a new release" : `release ${releaseId}`}),`,
    total === 0 ? "nobody to move" : `${total} tenants in ${cohorts.length} cohorts:`,
    ...cohorts.map(({ size, tenants }) => {
      const more = tenants.length > NAMED ? ` and ${tenants.length - NAMED} more` : "";
      return `  up to ${size}: ${tenants.slice(0, NAMED).join(", ")}${more}`;
    }),
  ];
}
