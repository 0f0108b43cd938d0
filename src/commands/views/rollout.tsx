import { Box, Text } from "ink";
import type { RolloutProgress } from "../../core/orchestrator/orchestrator.ts";
import { toPlainText } from "../../core/platform/plain-text.ts";
import { countDone, describeCounts, describeWaiting, percentDone } from "../fleet/rollout/describe.ts";
import { formatAge } from "../route/view.ts";

const BAR = 30;
const PROBLEMS = 6;

const COLORS = { running: "cyan", paused: "yellow", halted: "red", finished: "green", aborted: "yellow" } as const;

/** A rollout as it goes on. */
export function RolloutView({ progress, now }: { progress: RolloutProgress; now: Date }) {
  const { kind, id, status, reason, release, startedAt, endedAt, tenants, failures, maxFailures, perMinute } = progress;
  return (
    <Box flexDirection="column">
      <Text>
        <Text bold>
          {kind} {id}
        </Text>
        {": release "}
        {release.id}, {toPlainText(release.image)}{" "}
        <Text color={COLORS[status]}>
          {status}
          {reason === null ? "" : `: ${toPlainText(reason)}`}
        </Text>
      </Text>
      <Text>
        <Bar percent={percentDone(progress)} /> {countDone(progress)} of {tenants}, {perMinute} a minute,{" "}
        {formatAge(startedAt, endedAt ?? now)}
      </Text>
      <Text dimColor>{describeCounts(progress)}</Text>
      <Box flexDirection="column" marginTop={1}>
        {progress.cohorts.map((cohort, index) => (
          <Text key={cohort.size}>
            {`cohort ${index + 1}`.padEnd(10)}
            {`to ${cohort.size}`.padEnd(9)}
            <Bar percent={percentDone(cohort)} /> {describeCounts(cohort)}
          </Text>
        ))}
      </Box>
      <Box marginTop={1}>
        <Text wrap="truncate">waits for {toPlainText(describeWaiting(progress, now))}</Text>
      </Box>
      <Text color={failures === 0 ? "green" : "red"}>
        {failures} failed, {maxFailures} halt it
      </Text>
      {progress.problems.slice(-PROBLEMS).map(({ tenant, state, reason: why }) => (
        <Text key={tenant} wrap="truncate">
          {"  "}
          {tenant} {state}: {toPlainText(why ?? "no reason given")}
        </Text>
      ))}
    </Box>
  );
}

function Bar({ percent }: { percent: number }) {
  const full = Math.round((percent * BAR) / 100);
  return (
    <Text>
      <Text color="green">{"█".repeat(full)}</Text>
      <Text dimColor>{"░".repeat(BAR - full)}</Text>
    </Text>
  );
}
