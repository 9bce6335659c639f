// The panel that lists the tour, and brings back an example whose tab was closed.
import { useEffect, useState } from "react";
import { useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { filled } from "../at-hand.js";
import { examples } from "../examples.js";

const TourIcon = (props) => (
  <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.5" {...props}>
    <path d="M4 6.5h1M4 12h1m-1 5.5h1M9 6.5h11M9 12h11M9 17.5h7" strokeLinecap="round" />
  </svg>
);

export const EXAMPLES_PLUGIN = { title: "Examples", icon: TourIcon, content: ExamplesPanel };

const nameOf = ({ query }) => /^(?:query|mutation|subscription) (\w+)/m.exec(query)[1];

function ExamplesPanel() {
  const [wanted, setWanted] = useState(null);
  const { addTab, changeTab } = useGraphiQLActions();
  const { tabs, queryEditor, variableEditor } = useGraphiQL(({ tabs, queryEditor, variableEditor }) => ({
    tabs,
    queryEditor,
    variableEditor,
  }));

  function show(example) {
    const index = tabs.findIndex(({ title }) => title === nameOf(example));
    if (index >= 0) return changeTab(index);
    addTab();
    setWanted(example);
  }

  useEffect(() => {
    if (!wanted) return;
    queryEditor.setValue(wanted.query);
    filled(wanted.variables).then((text) => variableEditor.setValue(text));
    setWanted(null);
  }, [wanted, queryEditor, variableEditor]);

  return (
    <section className="examples" aria-labelledby="examples-title">
      <h2 id="examples-title">Examples</h2>
      <p>A tour in the order of the tabs. Each works on what the one before has made.</p>
      <ol>
        {examples.map((example) => (
          <li key={example.query}>
            <button type="button" onClick={() => show(example)}>
              {example.summary} <code>{nameOf(example)}</code>
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** Fills the ids at hand into the tab that is opened. */
export function FillAtHand() {
  const { activeTabIndex, variableEditor } = useGraphiQL(({ activeTabIndex, variableEditor }) => ({
    activeTabIndex,
    variableEditor,
  }));
  useEffect(() => {
    if (!variableEditor) return;
    const before = variableEditor.getValue();
    filled(before).then((after) => {
      // The user may have typed, or left the tab, while the catalogue was asked.
      if (after !== before && variableEditor.getValue() === before) variableEditor.setValue(after);
    });
  }, [activeTabIndex, variableEditor]);
  return null;
}
