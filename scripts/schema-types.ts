/** Writes src/core/platform/schema.ts from the migrations; with --verify, checks that it is what they produce. */
import path from "node:path";
import { Cli, GenericExpressionNode, IdentifierNode, LiteralNode, UnionExpressionNode } from "kysely-codegen";
import pg from "pg";
import { errorMessage } from "../src/core/platform/errors.ts";
import { packageRoot } from "../src/core/platform/package-root.ts";
import { withTestCluster } from "./test-cluster.ts";

/** Branded ids, by `table.column`; columns with certain names are recognised by themselves. */
const BRANDED_COLUMNS: Record<string, string> = {
  "tenants.id": "TenantId",
  "stamps.id": "StampId",
  "daemons.id": "DaemonId",
  "router_shards.owner": "DaemonId",
  "usage_reservations.daemon_id": "DaemonId",
  "fleet_releases.id": "ReleaseId",
  "rollouts.id": "RolloutId",
};
const BRANDED_NAMES: Record<string, string> = {
  tenant_id: "TenantId",
  stamp_id: "StampId",
  rollout_id: "RolloutId",
  provider: "ProviderId",
};
const ID_TYPES = ["TenantId", "StampId", "DaemonId", "ReleaseId", "RolloutId", "ProviderId"];
const RELEASE_COLUMN = /(^|_)release_id$/;

/** What the parsers in db.ts make of a type. JSON is written as text that the caller has stringified. */
const TYPE_MAPPING = { int8: "number", timestamptz: "Date", jsonb: "ColumnType<unknown, string, string>" };

type Column = { path: string; name: string; generated: boolean; check: string | null };

/** Columns with the definition of a CHECK that concerns them alone. */
const COLUMNS_SQL = `
  SELECT c.relname || '.' || a.attname AS path, a.attname AS name,
         a.atthasdef OR a.attidentity <> '' AS generated,
         (SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
           WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum]
             AND pg_get_constraintdef(k.oid) LIKE '%= ANY (ARRAY[%' LIMIT 1) AS check
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
   WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
   ORDER BY c.relname, a.attnum`;

/** The type of a column that plain introspection gets too wide: a branded id, or the words that its CHECK allows. */
function columnType(column: Column) {
  const branded =
    BRANDED_COLUMNS[column.path] ??
    BRANDED_NAMES[column.name] ??
    (RELEASE_COLUMN.test(column.name) ? "ReleaseId" : undefined);
  const words = [...(column.check?.matchAll(/'([^']+)'::text/g) ?? [])].map(([, word = ""]) => new LiteralNode(word));
  if (branded === undefined && words.length === 0) return undefined;
  const type = branded === undefined ? new UnionExpressionNode(words) : new IdentifierNode(branded);
  return column.generated ? new GenericExpressionNode("Generated", [type]) : type;
}

async function readOverrides(url: string) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<Column>(COLUMNS_SQL);
    return Object.fromEntries(
      rows.flatMap((column) => {
        const type = columnType(column);
        return type === undefined ? [] : [[column.path, type] as const];
      }),
    );
  } finally {
    await client.end();
  }
}

/** Runs kysely-codegen over a migrated database. @throws Error when `verify` finds a difference, after printing it. */
async function generateTypes(url: string, verify: boolean): Promise<void> {
  await new Cli().generate({
    url,
    dialect: "postgres",
    camelCase: true,
    excludePattern: "public.schema_migrations",
    outFile: path.join(packageRoot(), "src/core/platform/schema.ts"),
    typeMapping: TYPE_MAPPING,
    customImports: Object.fromEntries(ID_TYPES.map((name) => [name, "./ids.ts"])),
    overrides: { columns: await readOverrides(url) },
    logLevel: "error",
    verify,
  });
}

const verify = process.argv.includes("--verify");
await withTestCluster(async ({ templateUrl }) => {
  try {
    await generateTypes(templateUrl, verify);
  } catch (error) {
    if (!verify) throw error;
    console.error(
      `${errorMessage(error)}\nsrc/core/platform/schema.ts is not what the migrations produce: run \`npm run schema:types\`.`,
    );
    process.exitCode = 1;
  }
});
