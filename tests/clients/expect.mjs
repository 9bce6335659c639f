// What every script here shares: where the service is, who it speaks as, and how a failed expectation ends it.
import { isDeepStrictEqual, inspect } from "node:util";

export const url = process.env.STOREGRAPH_URL;
export const socketUrl = url.replace("http", "ws");
export const token = process.env.STOREGRAPH_TOKEN;
export const headers = { Authorization: `Bearer ${token}` };

export function expect(actual, expected, what) {
  if (isDeepStrictEqual(actual, expected)) return;
  console.error(`${what}\nexpected: ${inspect(expected, { depth: 9 })}\nactual:   ${inspect(actual, { depth: 9 })}`);
  process.exit(1);
}

export const CREATE = `mutation Create($name: String!) {
  createItem(input: { name: $name, price: "9.99" }) { __typename ... on Item { id name } }
}`;
export const FIND = `query Find($id: ID!) { item(id: $id) { id name price } }`;
export const LISTEN = `subscription Listen($channel: ID!) { echo(channel: $channel, message: "first") { text } }`;
export const SEND = `mutation Send($channel: ID!) { sendEcho(channel: $channel, message: "second") { text } }`;
export const HEARD = ["echo: first", "echo: second"];
