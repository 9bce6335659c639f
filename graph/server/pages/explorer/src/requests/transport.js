// How a document travels: queries and mutations by POST, subscriptions by graphql-transport-ws, both at this page's own address.
import { createClient } from "graphql-ws";

const ENDPOINT = new URL(location.pathname, location.origin);
const HEADERS = {
  accept: "application/graphql-response+json, application/json;q=0.9",
  "content-type": "application/json",
  "apollographql-client-name": "storegraph-explorer",
};
const TOKEN_REFUSED = 4403;

/** Answers a request with its GraphQL response; whatever else comes back is told as one. */
export async function post(request, headers = {}) {
  const response = await fetch(ENDPOINT, {
    method: "POST",
    headers: new Headers({ ...HEADERS, ...headers }),
    body: JSON.stringify(request),
  });
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return {
      errors: [{ message: `The server answered ${response.status} ${response.statusText}: ${text.slice(0, 500)}` }],
    };
  }
}

/**
 * Subscribes on a socket of its own, as each may carry another token.
 * `connectionParams` is asked again at every reconnection, which is how a renewed token reaches the socket;
 * `onTokenRefused` says whether there is hope of one.
 */
export function subscribe(request, { connectionParams, onTokenRefused, sink }) {
  const url = new URL(ENDPOINT);
  url.protocol = url.protocol.replace("http", "ws");
  const client = createClient({
    url: url.href,
    connectionParams,
    shouldRetry: (event) => event instanceof CloseEvent && (event.code !== TOKEN_REFUSED || onTokenRefused()),
  });
  const unsubscribe = client.subscribe(request, {
    next: sink.next,
    complete: sink.complete,
    error: (error) => {
      sink.next({ errors: asErrors(error) });
      sink.complete();
    },
  });
  return () => {
    unsubscribe();
    client.dispose();
  };
}

function asErrors(error) {
  if (Array.isArray(error)) return error;
  if (error instanceof CloseEvent) return [{ message: `The server closed the socket: ${error.code} ${error.reason}` }];
  return [{ message: error instanceof Error ? error.message : "The socket could not be opened." }];
}
