/** `npm run chaos -- router`: kills what the router stands on, under load, and checks that every update arrives, in order. */
import { parseArgs } from "node:util";
import { type RouterChaosResult, runRouterChaos } from "./chaos/router.ts";
import { isVictimName, VICTIM_NAMES } from "./chaos/victims.ts";

const USAGE = `usage: npm run chaos -- router [--updates 100000] [--chats 100] [--rounds 100] [--daemons 2] [--victims ${VICTIM_NAMES.join()}] [--json]`;

process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<number> {
  const { positionals, values } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      updates: { type: "string", default: "100000" },
      chats: { type: "string", default: "100" },
      rounds: { type: "string", default: "100" },
      daemons: { type: "string", default: "2" },
      victims: { type: "string", default: VICTIM_NAMES.join() },
      json: { type: "boolean", default: false },
    },
  });
  const [updates, chats, rounds, daemons] = [values.updates, values.chats, values.rounds, values.daemons].map(Number);
  const victims = values.victims.split(",");
  if (positionals.join(" ") !== "router" || !victims.every(isVictimName) || !updates || !chats || !daemons) {
    console.error(USAGE);
    return 2;
  }
  const result = await runRouterChaos({ updates, chats, daemons, victims, rounds: rounds ?? 0 });
  console.log(values.json ? JSON.stringify(result) : describe(result));
  return result.passed ? 0 : 1;
}

function describe(result: RouterChaosResult): string {
  const perSecond = Math.round((result.delivered / result.durationMs) * 1_000);
  const kills = Object.entries(result.kills).map(([name, count]) => `${name} ${count}`);
  return [
    `${result.passed ? "passed" : "FAILED"}: ${result.delivered} of ${result.sent} updates delivered, ${result.lost} lost`,
    `order:      ${result.chatsOutOfOrder} chats out of order`,
    `duplicates: ${result.duplicates}, of which ${result.duplicatesUnexplained} were not in flight at a kill`,
    ...result.crashes.map((said) => `a daemon ended by itself:\n${said}`),
    `leaks:      ${result.leaks} lines of logs and metrics with a credential or a message in them`,
    `kills -9:   ${kills.join(", ")}`,
    `silence:    after a kill, a chat waited ${result.silence.p50Ms} ms (p50) to ${result.silence.mostMs} ms (most) for its next update`,
    `speed:      ${perSecond} updates/s over ${(result.durationMs / 1_000).toFixed(1)} s`,
  ].join("\n");
}
