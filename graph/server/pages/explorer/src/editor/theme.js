// Monaco's colours: GraphiQL's, with comments and line numbers dark (or light) enough to read. WCAG 2 AA asks for 4.5 to 1.
export const editorTheme = { light: "storegraph-light", dark: "storegraph-dark" };

const CLEAR = "#ffffff00";

const colors = ({ ground, accent, ink, numbers }) => ({
  "editor.background": CLEAR,
  "scrollbar.shadow": CLEAR,
  "editorLineNumber.foreground": numbers,
  focusBorder: accent,
  "editorWidget.background": ground,
  "editorHoverWidget.background": ground,
  "editorSuggestWidget.background": ground,
  "editorSuggestWidget.selectedBackground": `${accent}19`,
  "editorSuggestWidget.selectedForeground": accent,
  "editorWidget.resizeBorder": accent,
  "list.hoverBackground": `${accent}19`,
  "list.highlightForeground": accent,
  "list.focusHighlightForeground": accent,
  "menu.background": ground,
  "menu.selectionBackground": `${accent}19`,
  "menu.selectionForeground": accent,
  "quickInput.background": ground,
  "quickInputList.focusBackground": `${accent}19`,
  "quickInputList.focusForeground": ink,
  "textLink.foreground": accent,
  "textLink.activeForeground": accent,
});

const light = {
  base: "vs",
  inherit: true,
  colors: colors({ ground: "#ffffff", accent: "#d60590", ink: "#3b4b68", numbers: "#5b6b86" }),
  rules: [
    { token: "comment", foreground: "3d6b3a" },
    { token: "argument.identifier.gql", foreground: "5a57c2" },
  ],
};

const dark = {
  base: "vs-dark",
  inherit: true,
  colors: colors({ ground: "#212a3b", accent: "#ff5794", ink: "#ffffff", numbers: "#94a0b8" }),
  rules: [
    { token: "comment", foreground: "8fb98a" },
    { token: "argument.identifier.gql", foreground: "a8a3ff" },
  ],
};

// Asked for before GraphiQL asks, so the themes are there when it makes its first editor; late, so the page is not kept waiting.
import("monaco-graphql/esm/monaco-editor.js").then(({ editor }) => {
  editor.defineTheme(editorTheme.light, light);
  editor.defineTheme(editorTheme.dark, dark);
});
