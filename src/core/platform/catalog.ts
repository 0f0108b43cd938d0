import type pg from "pg";

/** In the order in which they are created; removal goes the other way. */
export const CATALOG_KINDS = [
  "extension",
  "type",
  "sequence",
  "table",
  "column",
  "storage parameter",
  "function",
  "constraint",
  "index",
  "statistics",
  "view",
  "trigger",
  "trigger state",
  "row security",
  "policy",
] as const;
export type CatalogKind = (typeof CATALOG_KINDS)[number];

export type Column = {
  type: string;
  collation: string | null;
  notNull: boolean;
  /** An expression, unless the column is generated. */
  default: string | null;
  identity: "ALWAYS" | "BY DEFAULT" | null;
  generated: { expression: string; storage: "STORED" | "VIRTUAL" } | null;
};

/** One thing in a schema. Two of the same key are the same when their definitions are. */
export type CatalogObject = {
  kind: CatalogKind;
  /** As SQL: quoted where need be. */
  name: string;
  table: string | null;
  definition: string;
  create: string;
  drop: string;
  column?: Column;
};

/** Keyed by kind, table and name. */
export type Catalog = ReadonlyMap<string, CatalogObject>;

type Row = Omit<CatalogObject, "column"> & { column: Column | null };

/** Whatever an extension made is the extension's affair. */
const OWN = (catalog: string, oid: string) =>
  `NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '${catalog}'::regclass AND d.objid = ${oid} AND d.deptype = 'e')`;

/** Tables of ours; partitions follow their parents, and come and go as time passes. */
const TABLES = `
  SELECT quote_ident(c.relname) AS name, c.* FROM pg_class c
   WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
     AND c.relname <> 'schema_migrations' AND ${OWN("pg_class", "c.oid")}`;

/** Each yields kind, name, "table", definition, "create", "drop" and "column". */
const QUERIES: readonly string[] = [
  `SELECT 'extension', quote_ident(extname), NULL, extname::text, format('CREATE EXTENSION %I;', extname),
          format('DROP EXTENSION %I;', extname), NULL::json
     FROM pg_extension WHERE extname <> 'plpgsql'`,

  `SELECT 'type', name, NULL, definition, format('CREATE %s;', definition), format('DROP %s %s;', word, name), NULL
     FROM (SELECT quote_ident(t.typname) AS name, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END AS word,
                  CASE t.typtype
                    WHEN 'e' THEN format('TYPE %I AS ENUM (%s)', t.typname,
                      (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid))
                    WHEN 'c' THEN format('TYPE %I AS (%s)', t.typname,
                      (SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
                         FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped))
                    ELSE concat_ws(' ', format('DOMAIN %I AS %s', t.typname, format_type(t.typbasetype, t.typtypmod)),
                      'DEFAULT ' || t.typdefault, CASE WHEN t.typnotnull THEN 'NOT NULL' END,
                      (SELECT string_agg(format('CONSTRAINT %I %s', conname, pg_get_constraintdef(k.oid)), ' ' ORDER BY conname)
                         FROM pg_constraint k WHERE contypid = t.oid AND contype = 'c'))
                  END AS definition
             FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
            WHERE t.typnamespace = 'public'::regnamespace AND (t.typtype IN ('e', 'd') OR c.relkind = 'c')
              AND ${OWN("pg_type", "t.oid")}) types`,

  `SELECT 'sequence', name, NULL, definition, format('CREATE SEQUENCE %s %s;', name, definition), format('DROP SEQUENCE %s;', name), NULL
     FROM (SELECT quote_ident(c.relname) AS name,
                  format('AS %s INCREMENT %s MINVALUE %s MAXVALUE %s START %s CACHE %s%s', format_type(seqtypid, NULL), seqincrement,
                         seqmin, seqmax, seqstart, seqcache, CASE WHEN seqcycle THEN ' CYCLE' ELSE '' END) AS definition
             FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
            WHERE c.relnamespace = 'public'::regnamespace AND ${OWN("pg_class", "c.oid")}
              AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i')
          ) sequences`,

  `SELECT 'table', t.name, t.name, concat_ws(' ', CASE t.relpersistence WHEN 'u' THEN 'UNLOGGED' END, pg_get_partkeydef(t.oid)),
          format('CREATE %sTABLE %s (/* columns */)%s;', CASE t.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END, t.name,
                 COALESCE(' PARTITION BY ' || pg_get_partkeydef(t.oid), '')),
          format('DROP TABLE %s;', t.name), NULL
     FROM tables t`,

  `SELECT 'column', quote_ident(a.attname), t.name, '', '', format('ALTER TABLE %s DROP COLUMN %I;', t.name, a.attname),
          json_build_object(
            'type', format_type(a.atttypid, a.atttypmod),
            'collation', (SELECT quote_ident(l.collname) FROM pg_collation l JOIN pg_type y ON y.oid = a.atttypid
                           WHERE l.oid = a.attcollation AND a.attcollation <> y.typcollation),
            'notNull', a.attnotnull,
            'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
            'identity', CASE a.attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END,
            'generated', CASE WHEN a.attgenerated <> '' THEN json_build_object('expression', pg_get_expr(d.adbin, d.adrelid),
                           'storage', CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END) END)
     FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum`,

  `SELECT 'storage parameter', split_part(o, '=', 1), t.name, o, format('ALTER TABLE %s SET (%s);', t.name, o),
          format('ALTER TABLE %s RESET (%s);', t.name, split_part(o, '=', 1)), NULL
     FROM tables t, unnest(t.reloptions) o`,

  `SELECT 'function', p.oid::regprocedure::text, NULL, pg_get_functiondef(p.oid), rtrim(pg_get_functiondef(p.oid), E'\\n') || ';',
          format('DROP %s %s;', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, p.oid::regprocedure), NULL
     FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND p.prokind IN ('f', 'p', 'w') AND ${OWN("pg_proc", "p.oid")}`,

  // NOT NULL is a constraint of its own from PostgreSQL 18 on ('n'); the column says it already. 't' is a trigger.
  `SELECT 'constraint', quote_ident(k.conname), t.name, pg_get_constraintdef(k.oid),
          format('ALTER TABLE %s ADD CONSTRAINT %I %s;', t.name, k.conname, pg_get_constraintdef(k.oid)),
          format('ALTER TABLE %s DROP CONSTRAINT %I;', t.name, k.conname), NULL
     FROM tables t JOIN pg_constraint k ON k.conrelid = t.oid WHERE k.contype NOT IN ('n', 't')`,

  // An index that a broken-off CREATE INDEX CONCURRENTLY left behind exists without being of use.
  `SELECT 'index', i.indexrelid::regclass::text, t.name,
          pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid OR t.relkind = 'p' THEN '' ELSE ' (invalid)' END,
          pg_get_indexdef(i.indexrelid) || ';', format('DROP INDEX %s;', i.indexrelid::regclass), NULL
     FROM tables t JOIN pg_index i ON i.indrelid = t.oid
    WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))`,

  `SELECT 'statistics', quote_ident(s.stxname), t.name, pg_get_statisticsobjdef(s.oid), pg_get_statisticsobjdef(s.oid) || ';',
          format('DROP STATISTICS %I;', s.stxname), NULL
     FROM tables t JOIN pg_statistic_ext s ON s.stxrelid = t.oid`,

  `SELECT 'view', quote_ident(c.relname), NULL, concat(word, pg_get_viewdef(c.oid)),
          format('CREATE %s %I AS%s', word, c.relname, E'\\n' || pg_get_viewdef(c.oid)), format('DROP %s %I;', word, c.relname), NULL
     FROM pg_class c, LATERAL (SELECT CASE c.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END AS word) w
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('v', 'm') AND ${OWN("pg_class", "c.oid")}`,

  `SELECT 'trigger', quote_ident(g.tgname), t.name, pg_get_triggerdef(g.oid), pg_get_triggerdef(g.oid) || ';',
          format('DROP TRIGGER %I ON %s;', g.tgname, t.name), NULL
     FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid WHERE NOT g.tgisinternal`,

  `SELECT 'trigger state', quote_ident(g.tgname), t.name, word, format('ALTER TABLE %s %s TRIGGER %I;', t.name, word, g.tgname),
          format('ALTER TABLE %s ENABLE TRIGGER %I;', t.name, g.tgname), NULL
     FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid,
          LATERAL (SELECT CASE g.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' END AS word) w
    WHERE NOT g.tgisinternal AND word IS NOT NULL`,

  `SELECT 'row security', setting, t.name, setting, format('ALTER TABLE %s %s ROW LEVEL SECURITY;', t.name, setting),
          format('ALTER TABLE %s %s ROW LEVEL SECURITY;', t.name, CASE setting WHEN 'FORCE' THEN 'NO FORCE' ELSE 'DISABLE' END), NULL
     FROM tables t, unnest(ARRAY[CASE WHEN t.relrowsecurity THEN 'ENABLE' END, CASE WHEN t.relforcerowsecurity THEN 'FORCE' END]) setting
    WHERE setting IS NOT NULL`,

  `SELECT 'policy', quote_ident(policyname), t.name, definition, format('CREATE POLICY %I ON %s %s;', policyname, t.name, definition),
          format('DROP POLICY %I ON %s;', policyname, t.name), NULL
     FROM tables t JOIN pg_policies p ON p.schemaname = 'public' AND p.tablename = t.relname,
          LATERAL (SELECT concat_ws(' ', 'AS', permissive, 'FOR', cmd, 'TO', array_to_string(roles, ', '),
                                    'USING (' || qual || ')', 'WITH CHECK (' || with_check || ')') AS definition) d`,
];

const CATALOG_SQL = `WITH tables AS (${TABLES}),
objects(kind, name, "table", definition, "create", "drop", "column") AS (${QUERIES.join("\nUNION ALL\n")})
SELECT * FROM objects`;

/**
 * What the schema `public` consists of. Owners, grants and comments are left out, as are the
 * order of columns, what extensions own, partitions, and the migrations' ledger. Needs to run inside a transaction.
 */
export async function readCatalog(client: pg.ClientBase): Promise<Catalog> {
  // Definitions name other schemas' objects in full and those of `public` plainly, whoever asks.
  await client.query("SET LOCAL search_path = public, pg_catalog");
  const { rows } = await client.query<Row>(CATALOG_SQL);
  return new Map(
    rows.map((row) => toObject(row)).map((object) => [`${object.kind} ${object.table ?? ""} ${object.name}`, object]),
  );
}

function toObject({ column, ...object }: Row): CatalogObject {
  if (column === null) return object;
  const definition = columnDefinition(column);
  const create = `ALTER TABLE ${object.table} ADD COLUMN ${object.name} ${definition};`;
  return { ...object, column, definition, create };
}

function columnDefinition({ type, collation, generated, identity, notNull, ...column }: Column): string {
  return [
    type,
    collation === null ? "" : `COLLATE ${collation}`,
    generated === null ? "" : `GENERATED ALWAYS AS (${generated.expression}) ${generated.storage}`,
    identity === null ? "" : `GENERATED ${identity} AS IDENTITY`,
    column.default === null ? "" : `DEFAULT ${column.default}`,
    notNull ? "NOT NULL" : "",
  ]
    .filter((part) => part !== "")
    .join(" ");
}
