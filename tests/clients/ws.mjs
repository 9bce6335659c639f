// graphql-ws: single results, subscriptions, errors, pings, and a client that fetches a new token after its own is refused.
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { CREATE, HEARD, LISTEN, SEND, expect, headers, socketUrl } from "./expect.mjs";

const pongs = [];
const options = { url: socketUrl, webSocketImpl: WebSocket, retryAttempts: 2, retryWait: async () => {} };
const client = createClient({ ...options, connectionParams: headers, lazy: false, keepAlive: 20, on: { pong: (received) => pongs.push(received) } });

const one = (query, variables, by = client) =>
  new Promise((done, fail) => {
    let result;
    by.subscribe({ query, variables }, { next: (value) => (result = value), error: fail, complete: () => done(result) });
  });

expect(await one("{ __typename }"), { data: { __typename: "Query" } }, "query");
expect((await one(CREATE, { name: "socket" })).data.createItem.name, "socket", "mutation");
for (const [query, code] of [["{", "GRAPHQL_PARSE_FAILED"], ["{ nothing }", "GRAPHQL_VALIDATION_FAILED"]]) {
  expect((await one(query).catch((errors) => errors))[0].extensions.code, code, query);
}

const heard = [];
for await (const { data } of client.iterate({ query: LISTEN, variables: { channel: "ws" } })) {
  heard.push(data.echo.text);
  if (heard.length === 2) break;
  await one(SEND, { channel: "ws" });
}
expect(heard, HEARD, "subscription");
while (!pongs.includes(true)) await new Promise((next) => setTimeout(next, 5));
await client.dispose();

// "It is recommended to close the socket with 4403": the client comes back, and with the token that it has by then.
const offered = ["Bearer expired", headers.Authorization];
const closes = [];
const returning = createClient({
  ...options,
  connectionParams: () => ({ Authorization: offered.shift() }),
  shouldRetry: () => true,
  on: { closed: ({ code }) => closes.push(code) },
});
expect((await one(CREATE, { name: "again" }, returning)).data.createItem.name, "again", "after a refused token");
expect([closes[0], offered], [4403, []], "close code and tokens used");
await returning.dispose();
