// urql with its defaults; subscriptions by server-sent events over its own fetch exchange; automatic persisted queries.
import { Client, fetchExchange } from "@urql/core";
import { persistedExchange } from "@urql/exchange-persisted";
import { CREATE, FIND, HEARD, LISTEN, SEND, expect, headers, url } from "./expect.mjs";

const client = new Client({ url, exchanges: [fetchExchange], fetchOptions: { headers }, fetchSubscriptions: true, preferGetMethod: false });
const created = await client.mutation(CREATE, { name: "urql" }).toPromise();
expect(created.error, undefined, "mutation");
const { id } = created.data.createItem;
expect((await client.query(FIND, { id }).toPromise()).data.item, { id, name: "urql", price: "9.99" }, "query");
const refused = await client.query("{ nothing }", {}).toPromise();
expect(refused.error.graphQLErrors[0].extensions.code, "GRAPHQL_VALIDATION_FAILED", "a validation error");

const hashing = new Client({ url, exchanges: [persistedExchange({ preferGetForPersistedQueries: true }), fetchExchange], preferGetMethod: false });
for (const _ of ["unknown", "known"]) {
  expect((await hashing.query(FIND, { id }, { requestPolicy: "network-only" }).toPromise()).data?.item.name, "urql", "persisted query");
}

const heard = [];
await new Promise((done, fail) => {
  client.subscription(LISTEN, { channel: "urql" }).subscribe(({ data, error }) => {
    if (error) fail(error);
    heard.push(data.echo.text);
    if (heard.length === 1) client.mutation(SEND, { channel: "urql" }).toPromise();
    else done();
  });
});
expect(heard, HEARD, "subscription");
process.exit(); // it does not unsubscribe: in Node, urql lets the error of its own aborted fetch escape
