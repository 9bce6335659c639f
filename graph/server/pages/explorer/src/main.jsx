import "./editor/keys.js";
import "./editor/workers.js";
import { createRoot } from "react-dom/client";
import { GraphiQL, HISTORY_PLUGIN } from "graphiql";
import "@graphiql/react/font/roboto.css";
import "@graphiql/react/font/fira-code.css";
import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "@graphiql/plugin-history/style.css";
import "graphiql/graphiql.css";
import "./explorer.css";
import { EXAMPLES_PLUGIN, FillAtHand } from "./panels/examples-panel.jsx";
import { examples } from "./examples.js";
import { fetcher } from "./requests/fetcher.js";
import { LiveEvents } from "./panels/live-events.jsx";
import { SALES_PLUGIN } from "./panels/sales-panel.jsx";
import { SESSION_PLUGIN } from "./panels/session-panel.jsx";
import { useSession } from "./requests/session.js";
import { StatusBar } from "./panels/status-bar.jsx";
import { storage } from "./editor/storage.js";
import { onTabChange } from "./editor/tabs.js";
import { editorTheme } from "./editor/theme.js";

const PLUGINS = [EXAMPLES_PLUGIN, SESSION_PLUGIN, SALES_PLUGIN, HISTORY_PLUGIN];

function Explorer() {
  return (
    <GraphiQL
      fetcher={fetcher}
      storage={storage}
      defaultTabs={examples}
      // GraphiQL shows the first default tab's query by itself, but not its variables.
      initialVariables={storage.length === 0 ? examples[0].variables : undefined}
      defaultEditorToolsVisibility={true}
      editorTheme={editorTheme}
      plugins={PLUGINS}
      onTabChange={onTabChange}
      inputValueDeprecation
      schemaDescription
    >
      <GraphiQL.Logo>
        <Brand />
      </GraphiQL.Logo>
      <GraphiQL.Footer>
        <LiveEvents />
        <StatusBar />
      </GraphiQL.Footer>
      <FillAtHand />
    </GraphiQL>
  );
}

function Brand() {
  const session = useSession(({ session }) => session);
  return (
    <div className="brand">
      <button type="button" className="who" onClick={showSession}>
        <span className={session ? "lamp on" : "lamp"} aria-hidden="true" />
        {session ? (session.username ?? "Signed in") : "Sign in"}
      </button>
      <h1>
        <img src="explorer/favicon.svg" alt="" />
        Storegraph
      </h1>
    </div>
  );
}

// A panel that was hidden is shown by its sidebar button alone: the store's action chooses it but leaves it at no width.
const showSession = () => document.querySelector('.graphiql-sidebar [aria-label="Show Session"]')?.click();

createRoot(document.getElementById("explorer")).render(<Explorer />);
