// graphql-eslint's recommended rules and those for Relay, on schema.graphql.
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import plugin from "@graphql-eslint/eslint-plugin";
import { ESLint } from "eslint";
import { Kind, parse } from "graphql";
import { expect } from "./expect.mjs";

const schema = process.env.STOREGRAPH_SCHEMA;
// Results, refusals, events and pages are values: only a Node has an identity, and the rule holds for every Node.
const objects = parse(readFileSync(schema, "utf8")).definitions.filter(({ kind }) => kind === Kind.OBJECT_TYPE_DEFINITION);
const values = objects.filter(({ interfaces }) => !interfaces.some(({ name }) => name.value === "Node")).map(({ name }) => name.value);
const eslint = new ESLint({
  cwd: dirname(schema),
  overrideConfigFile: true,
  overrideConfig: {
    files: ["**/*.graphql"],
    languageOptions: { parser: plugin.parser, parserOptions: { graphQLConfig: { schema } } },
    plugins: { "@graphql-eslint": plugin },
    rules: {
      ...plugin.configs["flat/schema-recommended"].rules,
      ...plugin.configs["flat/schema-relay"].rules,
      "@graphql-eslint/strict-id-in-types": ["error", { exceptions: { types: values } }],
      "@graphql-eslint/no-typename-prefix": "off", // for User.username, a name that clients know
      // A short list with a stated bound, as of tags, is no connection.
      "@graphql-eslint/relay-edge-types": ["error", { withEdgeSuffix: true, shouldImplementNode: true, listTypeCanWrapOnlyEdgeType: false }],
    },
  },
});
const [{ messages }] = await eslint.lintFiles([schema]);
const errors = messages.filter(({ severity }) => severity === 2);
expect(errors.map(({ line, ruleId, message }) => `${line} ${ruleId}: ${message}`), [], "graphql-eslint");
