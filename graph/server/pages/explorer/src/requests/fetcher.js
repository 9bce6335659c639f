// What GraphiQL calls to run a document: adds the session's token, keeps streams open, and tells the rest of the page what came back.
import { getOperationAST, parse } from "graphql";
import { notice } from "../at-hand.js";
import { adopt, authorization, renew } from "./session.js";
import { open } from "./streams.js";
import { activeTabId, isOpen } from "../editor/tabs.js";
import { post, subscribe } from "./transport.js";

export function fetcher(asked, { headers = {} } = {}) {
  const operation = operationOf(asked);
  const request = { ...asked, operationName: operation?.name?.value ?? asked.operationName };
  return operation?.operation === "subscription" ? stream(request, headers) : ask(request, headers);
}

/** The operation meant. The name that GraphiQL gives is a tenth of a second old: of the tab before, if one is quick. */
function operationOf({ query, operationName }) {
  try {
    const document = parse(query);
    return getOperationAST(document, operationName) ?? getOperationAST(document);
  } catch {
    return null; // The server says best what is wrong with it.
  }
}

const named = (headers) => Object.keys(headers).some((name) => name.toLowerCase() === "authorization");

/** The Headers editor wins: what is written there by hand is what is sent. */
const withToken = async (headers) => (named(headers) ? headers : { ...(await authorization()), ...headers });

/** Without `data` nothing ran, so that asking again is safe. */
const refused = (result) => !("data" in result) && result.errors?.[0].extensions?.code === "UNAUTHENTICATED";

async function ask(request, headers) {
  const sent = await withToken(headers);
  let result = await post(request, sent);
  // A token can end early: revoked, or signed with a key that the server no longer has.
  if (refused(result) && named(sent) && !named(headers)) {
    await renew();
    result = await post(request, await withToken(headers));
  }
  if (request.operationName === "IntrospectionQuery" && !result.data) {
    return (await import("./published-schema.js")).publishedSchema();
  }
  notice(result);
  const token = Object.values(result.data ?? {}).find((value) => value?.__typename === "Token" && value.accessToken);
  if (token) await adopt(token);
  return result;
}

/** An observable for GraphiQL, which stops a subscription when its tab is left; here it goes on until stopped or closed. */
function stream(request, headers) {
  return {
    subscribe(observer) {
      const tabId = activeTabId();
      let watched = true;
      const stop = open({
        tabId,
        name: request.operationName ?? "Subscription",
        start: (sink) =>
          connect(
            request,
            headers,
            both(sink, observer, () => watched),
          ),
      });
      const unsubscribe = () => {
        watched = false;
        // GraphiQL changes the tab just after this call; until then, leaving looks like stopping.
        queueMicrotask(() => (activeTabId() === tabId || !isOpen(tabId)) && stop());
      };
      return { unsubscribe };
    },
  };
}

function connect(request, headers, sink) {
  let stale = false;
  return subscribe(request, {
    sink,
    async connectionParams() {
      if (stale) await renew();
      stale = false;
      return withToken(headers);
    },
    onTokenRefused: () => (stale = !named(headers)),
  });
}

const both = (sink, observer, watched) => ({
  next(result) {
    sink.next(result);
    notice(result);
    if (watched()) observer.next(result);
  },
  complete() {
    sink.complete();
    if (watched()) observer.complete();
  },
});
