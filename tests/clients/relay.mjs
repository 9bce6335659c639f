// Relay's compiler on schema.graphql: it takes the schema for one of Relay's (Node, connections, refetching by id).
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import compiler from "relay-compiler";
import { expect } from "./expect.mjs";

const folder = mkdtempSync(join(tmpdir(), "relay-"));
copyFileSync(process.env.STOREGRAPH_SCHEMA, join(folder, "schema.graphql"));
mkdirSync(join(folder, "src"));
writeFileSync(
  join(folder, "src", "Items.ts"),
  `import { graphql } from "relay-runtime";
graphql\`query ItemsQuery($search: String) { ...Items_list @arguments(search: $search) }\`;
graphql\`fragment Items_list on Query @refetchable(queryName: "ItemsPaginationQuery")
  @argumentDefinitions(search: { type: "String" }, count: { type: "Int", defaultValue: 20 }, cursor: { type: "String" }) {
  items(search: $search, first: $count, after: $cursor) @connection(key: "Items_items") { edges { node { id ...Items_item } } }
}\`;
graphql\`fragment Items_item on Item @refetchable(queryName: "ItemRefetchQuery") { name price owner { username } }\`;
`,
);
writeFileSync(join(folder, "persisted.json"), "{}");
const config = { src: "src", schema: "schema.graphql", language: "typescript", persistConfig: { file: "persisted.json", algorithm: "SHA256" } };
writeFileSync(join(folder, "relay.config.json"), JSON.stringify(config));
execFileSync(compiler, ["relay.config.json"], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
const documents = Object.values(JSON.parse(readFileSync(join(folder, "persisted.json"), "utf8")));
expect(documents.length, 3, "documents: the query, its next page, one item again");
expect(documents.filter((text) => text.includes("node(id: $id)")).length, 1, "an item is fetched again through Query.node");
rmSync(folder, { recursive: true });
