import { type Catalog, CATALOG_KINDS, type CatalogObject, type Column } from "./catalog.ts";

/** `sql` makes `actual` the same as `expected` in this point. */
export type Difference = { message: string; sql: string };

/**
 * Everything in which `actual` differs from `expected`. Run in the order given, the SQL of all of them makes the two the same,
 * unless rows or objects outside the catalog stand in the way.
 */
export function diffCatalogs(expected: Catalog, actual: Catalog): Difference[] {
  const lostTables = tablesOnlyIn(expected, actual);
  const extraTables = tablesOnlyIn(actual, expected);
  const extra = inOrder(actual)
    .reverse()
    .filter(([key, object]) => !expected.has(key) && !goesWithTable(object, extraTables))
    .map(([, object]) => ({ message: `${label(object)} is in no migration.`, sql: object.drop }));
  const missingOrChanged = inOrder(expected).flatMap(([key, object]): Difference[] => {
    const found = actual.get(key);
    if (found === undefined) return comesWithTable(object, lostTables) ? [] : [missing(object, expected)];
    return found.definition === object.definition ? [] : [changed(object, found)];
  });
  return [...extra, ...missingOrChanged];
}

function inOrder(catalog: Catalog): [string, CatalogObject][] {
  const rank = ({ kind }: CatalogObject) => CATALOG_KINDS.indexOf(kind);
  // Primary and unique keys before the foreign keys that refer to them.
  const foreign = (object: CatalogObject) => Number(isForeignKey(object));
  return [...catalog].sort(
    ([keyA, a], [keyB, b]) => rank(a) - rank(b) || foreign(a) - foreign(b) || (keyA < keyB ? -1 : 1),
  );
}

function isForeignKey({ kind, definition }: CatalogObject): boolean {
  return kind === "constraint" && definition.startsWith("FOREIGN KEY");
}

function tablesOnlyIn(one: Catalog, other: Catalog): Set<string> {
  return new Set([...one].filter(([key, { kind }]) => kind === "table" && !other.has(key)).map(([, { name }]) => name));
}

/** Dropping a table takes along what belongs to it; foreign keys go before, or tables could only go in one order. */
function goesWithTable(object: CatalogObject, extraTables: ReadonlySet<string>): boolean {
  const { kind, table } = object;
  return kind !== "table" && !isForeignKey(object) && table !== null && extraTables.has(table);
}

/** Creating a table creates its columns; the rest is created one by one. */
function comesWithTable({ kind, table }: CatalogObject, lostTables: ReadonlySet<string>): boolean {
  return kind === "column" && table !== null && lostTables.has(table);
}

function missing(object: CatalogObject, expected: Catalog): Difference {
  const message = `${label(object)} is missing.`;
  if (object.kind !== "table") return { message, sql: object.create };
  const columns = [...expected.values()].filter(({ kind, table }) => kind === "column" && table === object.name);
  const list = columns.map(({ name, definition }) => `  ${name} ${definition}`).join(",\n");
  return { message, sql: object.create.replace("(/* columns */)", () => `(\n${list}\n)`) };
}

function changed(expected: CatalogObject, found: CatalogObject): Difference {
  // A body is too long for a line.
  const hasBody = expected.kind === "function" || expected.kind === "view";
  const detail = hasBody
    ? ""
    : ` Expected: ${expected.definition || "(plain)"}; found: ${found.definition || "(plain)"}.`;
  return { message: `${label(expected)} differs.${detail}`, sql: changeSql(expected, found) };
}

function changeSql(expected: CatalogObject, found: CatalogObject): string {
  switch (expected.kind) {
    case "table":
      return `-- ${expected.name} can't be altered in place: rename it, run the following, copy its rows.\n-- ${expected.create}`;
    case "column":
      return expected.column && found.column ? alterColumn(expected, expected.column, found.column) : expected.create;
    // Their SQL replaces what is there.
    case "function":
    case "storage parameter":
    case "trigger state":
      return expected.create;
    default:
      return `${found.drop}\n${expected.create}`;
  }
}

function alterColumn(object: CatalogObject, expected: Column, found: Column): string {
  // What a column is generated from can't be changed; its values can be computed again.
  if (JSON.stringify(expected.generated) !== JSON.stringify(found.generated)) return `${object.drop}\n${object.create}`;
  const actions: string[] = [];
  const retype = expected.type !== found.type || expected.collation !== found.collation;
  // The old default may not fit the new type.
  if (found.default !== null && (retype || expected.default === null)) actions.push("DROP DEFAULT");
  if (found.identity !== null && expected.identity === null) actions.push("DROP IDENTITY");
  if (retype) {
    const collate = expected.collation === null ? "" : ` COLLATE ${expected.collation}`;
    actions.push(`TYPE ${expected.type}${collate} USING ${object.name}::${expected.type}`);
  }
  if (expected.notNull !== found.notNull) actions.push(expected.notNull ? "SET NOT NULL" : "DROP NOT NULL");
  if (expected.identity !== null && found.identity !== expected.identity) {
    actions.push(
      found.identity === null ? `ADD GENERATED ${expected.identity} AS IDENTITY` : `SET GENERATED ${expected.identity}`,
    );
  }
  if (expected.default !== null && (retype || expected.default !== found.default))
    actions.push(`SET DEFAULT ${expected.default}`);
  return actions.map((action) => `ALTER TABLE ${object.table} ALTER COLUMN ${object.name} ${action};`).join("\n");
}

function label({ kind, name, table }: CatalogObject): string {
  const named =
    kind === "column" ? `${table}.${name}` : table === null || kind === "table" ? name : `${name} of ${table}`;
  return `${kind.charAt(0).toUpperCase()}${kind.slice(1)} ${named}`;
}
