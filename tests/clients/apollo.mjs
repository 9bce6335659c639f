// Apollo Client with its defaults, with automatic persisted queries, and over graphql-ws.
import { createHash } from "node:crypto";
import { ApolloClient, ApolloLink, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { PersistedQueryLink } from "@apollo/client/link/persisted-queries";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { CREATE, FIND, HEARD, LISTEN, SEND, expect, headers, socketUrl, url } from "./expect.mjs";

const cache = () => new InMemoryCache();
const client = new ApolloClient({ cache: cache(), link: new HttpLink({ uri: url, headers }) });
const created = await client.mutate({ mutation: gql(CREATE), variables: { name: "Apollo" } });
expect(created.data.createItem.name, "Apollo", "mutation");
const { id } = created.data.createItem;
const found = { __typename: "Item", id, name: "Apollo", price: "9.99" };
expect((await client.query({ query: gql(FIND), variables: { id } })).data.item, found, "query");

const refused = await client.query({ query: gql`{ nothing }` }).catch((error) => error);
expect(CombinedGraphQLErrors.is(refused), true, "a validation error reaches the caller as a GraphQL error");
expect(refused.errors[0].extensions.code, "GRAPHQL_VALIDATION_FAILED", "its code");

const posts = [];
const counting = (uri, options) => (posts.push(options.method), fetch(uri, options));
const persisted = new PersistedQueryLink({ sha256: (text) => createHash("sha256").update(text).digest("hex"), useGETForHashedQueries: true });
for (const methods of [["GET", "POST"], ["GET"]]) {
  posts.length = 0;
  const link = ApolloLink.from([persisted, new HttpLink({ uri: url, fetch: counting })]);
  const hashed = new ApolloClient({ cache: cache(), link });
  expect((await hashed.query({ query: gql(FIND), variables: { id } })).data.item, found, "persisted query");
  expect(posts, methods, "the document is sent once, the hash from then on");
}

const socket = createClient({ url: socketUrl, webSocketImpl: WebSocket });
const live = new ApolloClient({ cache: cache(), link: new GraphQLWsLink(socket) });
const heard = [];
await new Promise((done, fail) => {
  live.subscribe({ query: gql(LISTEN), variables: { channel: "apollo" } }).subscribe({
    next: ({ data }) => {
      heard.push(data.echo.text);
      if (heard.length === 1) live.mutate({ mutation: gql(SEND), variables: { channel: "apollo" } }).catch(fail);
      else done();
    },
    error: fail,
  });
});
expect(heard, HEARD, "subscription");
await socket.dispose();
