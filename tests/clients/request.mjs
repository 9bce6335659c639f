// graphql-request with its defaults, and by GET.
import { ClientError, GraphQLClient } from "graphql-request";
import { CREATE, FIND, expect, headers, url } from "./expect.mjs";

const client = new GraphQLClient(url, { headers });
const { id } = (await client.request(CREATE, { name: "request" })).createItem;
const found = { item: { id, name: "request", price: "9.99" } };
expect(await client.request(FIND, { id }), found, "query");
expect(await new GraphQLClient(url, { method: "GET", jsonSerializer: JSON }).request(FIND, { id }), found, "query by GET");

const refused = await client.request("{ nothing }").catch((error) => error);
expect(refused instanceof ClientError, true, "a refusal is a ClientError");
expect(refused.response.errors[0].extensions.code, "GRAPHQL_VALIDATION_FAILED", "its code");
const stranger = await new GraphQLClient(url, { headers: { Authorization: "Bearer x" } }).request("{ __typename }").catch((error) => error);
expect([stranger.response.status, stranger.response.errors[0].extensions.code], [401, "UNAUTHENTICATED"], "a bad token");
