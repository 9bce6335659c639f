// graphql-sse in its distinct connections mode.
import { createClient } from "graphql-sse";
import { CREATE, HEARD, LISTEN, SEND, expect, headers, url } from "./expect.mjs";

const client = createClient({ url, headers, retryAttempts: 0 });
const all = async (query, variables) => {
  const results = [];
  for await (const result of client.iterate({ query, variables })) results.push(result);
  return results;
};

expect(await all("{ __typename }"), [{ data: { __typename: "Query" } }], "query");
expect((await all(CREATE, { name: "sse" }))[0].data.createItem.name, "sse", "mutation");
expect((await all("{ nothing }"))[0].errors[0].extensions.code, "GRAPHQL_VALIDATION_FAILED", "a validation error comes as an event");

const heard = [];
for await (const { data } of client.iterate({ query: LISTEN, variables: { channel: "sse" } })) {
  heard.push(data.echo.text);
  if (heard.length === 2) break;
  await all(SEND, { channel: "sse" });
}
expect(heard, HEARD, "subscription");
client.dispose();
