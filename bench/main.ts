/** `npm run bench -- router|billing|models`: measures a part beside its peers, on this machine and in this run. */
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { benchAcceptance } from "./acceptance.ts";
import { benchBilling } from "./billing.ts";
import { benchDelivery } from "./delivery.ts";
import { benchGateway } from "./gateway.ts";
import { benchLookup } from "./lookup.ts";
import { benchModels } from "./models.ts";

const USAGE =
  "usage: npm run bench -- router [--only acceptance,acceptance-full,delivery,gateway,lookup] [--rounds 3] [--seconds 4]\n" +
  "       npm run bench -- billing [--rounds 3] [--seconds 4]\n" +
  "       npm run bench -- models [--rounds 3] [--seconds 4]";

process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<number> {
  const { positionals, values } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      only: { type: "string" },
      rounds: { type: "string", default: "3" },
      seconds: { type: "string", default: "4" },
    },
  });
  const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)];
  const router: Record<string, () => Promise<object>> = {
    acceptance: () => benchAcceptance({ rounds, seconds, keptRows: 0 }),
    "acceptance-full": () => benchAcceptance({ rounds, seconds, keptRows: 5_000_000 }),
    delivery: () => benchDelivery({ rounds, seconds }),
    gateway: () => benchGateway({ rounds, seconds }),
    lookup: () => benchLookup({ rounds, seconds, sizes: [1_000, 1_000_000] }),
  };
  const groups: Record<string, typeof router> = {
    router,
    models: { models: () => benchModels({ rounds, seconds }) },
    billing: { billing: () => benchBilling({ rounds, seconds }) },
  };
  const group = groups[positionals.join(" ")];
  if (group === undefined) {
    console.error(USAGE);
    return 2;
  }
  for (const [name, run] of Object.entries(group)) {
    if (values.only !== undefined && !values.only.split(",").includes(name)) continue;
    console.log(JSON.stringify({ ...(await run()), machine: { cores: cpus().length, node: process.version } }));
  }
  return 0;
}
