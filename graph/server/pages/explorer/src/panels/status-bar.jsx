// What the operation in the editor would cost, and who is asking.
import { useEffect, useState } from "react";
import { parse } from "graphql";
import { useGraphiQL, useOperationsEditorState, useVariablesEditorState } from "@graphiql/react";
import { authorization, useSession } from "../requests/session.js";
import { post } from "../requests/transport.js";

const PAUSE_MS = 500; // The price is asked for when typing rests, not at each key.
const COST = `query Cost($document: String!, $variables: JSON, $operationName: String) {
  rateLimit(document: $document, variables: $variables, operationName: $operationName) { enabled cost remaining limit resetAt }
}`;

export function StatusBar() {
  const price = usePrice();
  return (
    <div className="status-bar" role="status">
      {price && (
        <span title={`Full again at ${new Date(price.resetAt).toLocaleTimeString()}`}>
          Cost <b>{price.cost}</b>
          {price.enabled && ` · ${price.remaining.toLocaleString()} of ${price.limit.toLocaleString()} points left`}
        </span>
      )}
    </div>
  );
}

function usePrice() {
  const [text] = useOperationsEditorState();
  const [variables] = useVariablesEditorState();
  const { operationName, isFetching, told } = useGraphiQL(({ operationName, isFetching, schema }) => ({
    operationName,
    isFetching,
    told: Boolean(schema?.getQueryType()?.getFields().rateLimit),
  }));
  const session = useSession(({ session }) => session?.accessToken);
  const [price, setPrice] = useState(null);

  useEffect(() => {
    if (isFetching || !told) return;
    let current = true;
    const timer = setTimeout(async () => {
      const found = await ask(text, operationName, variables).catch(() => null);
      if (current) setPrice(found);
    }, PAUSE_MS);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [text, operationName, variables, session, isFetching, told]);

  return price;
}

async function ask(document, operationName, variables) {
  parse(document); // What is half typed is not worth a question.
  const request = { query: COST, variables: { document, operationName, variables: JSON.parse(variables || "{}") } };
  const { data } = await post(request, await authorization());
  return data?.rateLimit;
}
