// GraphQL Code Generator on schema.graphql and some operations; TypeScript, in strict mode, on what comes out.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { codegen } from "@graphql-codegen/core";
import * as types from "@graphql-codegen/typescript";
import * as operations from "@graphql-codegen/typescript-operations";
import { parse } from "graphql";
import ts from "typescript";
import { CREATE, FIND, LISTEN, expect } from "./expect.mjs";

const scalars = { BigInt: "string", ByteCount: "number", DateTime: "string", Decimal: "string", JSON: "unknown" };
const generated = await codegen({
  schema: parse(readFileSync(process.env.STOREGRAPH_SCHEMA, "utf8")),
  documents: [{ location: "operations.graphql", document: parse([CREATE, FIND, LISTEN].join("\n")) }],
  filename: "generated.ts",
  config: { strictScalars: true, scalars, enumsAsTypes: true },
  plugins: [{ types: {} }, { operations: {} }],
  pluginMap: { types, operations },
});
const folder = mkdtempSync(join(tmpdir(), "codegen-"));
const use = `
export function name(found: FindQuery): string { return found.item?.name ?? "none"; }
export const variables: FindQueryVariables = { id: "SXRlbTox" };
export function created(result: CreateMutation): string {
  return result.createItem.__typename === "Item" ? result.createItem.name : "refused";
}
`;
const file = join(folder, "generated.ts");
writeFileSync(file, generated + use);
const options = { strict: true, noEmit: true, skipLibCheck: true, types: [], target: ts.ScriptTarget.ES2022 };
const diagnostics = ts.getPreEmitDiagnostics(ts.createProgram([file], options));
expect(diagnostics.map((each) => ts.flattenDiagnosticMessageText(each.messageText, "\n")), [], "TypeScript");
rmSync(folder, { recursive: true });
