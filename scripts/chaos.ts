/** `npm run chaos -- router`: kills daemons under load and checks that every update arrives once, in order. */
import { parseArgs } from "node:util";
import { type RouterChaosResult, runRouterChaos } from "./chaos/router.ts";

const USAGE = "usage: npm run chaos -- router [--updates 10000] [--chats 100] [--kills 1] [--daemons 1] [--json]";

process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<number> {
  const { positionals, values } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      updates: { type: "string", default: "10000" },
      chats: { type: "string", default: "100" },
      kills: { type: "string", default: "1" },
      daemons: { type: "string", default: "1" },
      json: { type: "boolean", default: false },
    },
  });
  if (positionals.join(" ") !== "router") {
    console.error(USAGE);
    return 2;
  }
  const result = await runRouterChaos({
    updates: Number(values.updates),
    chats: Number(values.chats),
    kills: Number(values.kills),
    daemons: Number(values.daemons),
  });
  console.log(values.json ? JSON.stringify(result) : describe(result));
  return result.passed ? 0 : 1;
}

function describe(result: RouterChaosResult): string {
  const perSecond = Math.round((result.delivered / result.durationMs) * 1_000);
  return [
    `${result.passed ? "passed" : "FAILED"}: ${result.delivered} of ${result.sent} updates delivered, ${result.lost} lost`,
    `order:      ${result.chatsOutOfOrder} chats out of order`,
    `duplicates: ${result.duplicates}, of which ${result.duplicatesUnexplained} not explained by a kill`,
    `kills:      ${result.kills} ${result.handovers
      .map(
        (handover) =>
          `(next delivery after ${handover.firstDeliveryMs} ms, longest silence ${handover.longestSilenceMs} ms)`,
      )
      .join(" ")}`,
    `speed:      ${perSecond} updates/s over ${(result.durationMs / 1_000).toFixed(1)} s`,
  ].join("\n");
}
