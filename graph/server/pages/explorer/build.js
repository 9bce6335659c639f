// Bundles src/ into dist/: the page, hashed and split chunks, Monaco's workers, and a Brotli and a gzip copy of each text file.
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, extname } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, gzip } from "node:zlib";
import { build } from "esbuild";

const OUT = "dist.new"; // Takes the place of dist at the end, so that a build that fails leaves the last good one.
const PRODUCTION = { "process.env.NODE_ENV": '"production"' };
const WORKERS = {
  editor: "node_modules/monaco-editor/esm/vs/editor/editor.worker.js",
  json: "node_modules/monaco-editor/esm/vs/language/json/json.worker.js",
  graphql: "node_modules/monaco-graphql/esm/graphql.worker.js",
};
// What the page needs before it can be typed in, though GraphiQL asks for it late: told to the browser at once.
const PRELOADED = /monaco-graphql\/esm\/(monaco-editor|lite|graphqlMode)\.js$|language\/json\/jsonMode\.js$/;
// GraphiQL asks for these two by old names, which lead to CommonJS files that hide what they export from an import().
const ALIASES = {
  "prettier/parser-babel": "prettier/plugins/babel",
  "prettier/parser-graphql": "prettier/plugins/graphql",
};
// Monaco's parts for code bases: GraphQL and JSON never reach them.
const UNUSED =
  /contrib\/(codeAction|codelens|colorPicker|diffEditorBreadcrumbs|dropOrPasteInto|inPlaceReplace|inlayHints|inlineCompletions|inlineEdits?|inlineProgress|linkedEditing|rename|sectionHeaders|semanticTokens|stickyScroll)\/|(diffEditor\.contribution|suggestInlineCompletions|inspectTokens|iPadShowKeyboard)\.js$/;

const leanMonaco = {
  name: "lean-monaco",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: UNUSED }, ({ importer, path }) =>
      /\/(editor\.all|edcore\.main)\.js$/.test(importer) ? { path, namespace: "unused" } : undefined,
    );
    onLoad({ filter: /./, namespace: "unused" }, () => ({ contents: "" }));
  },
};

// GraphiQL's fonts are data URIs in its CSS. As files, a browser loads only the two or three subsets it shows.
const fontFiles = {
  name: "font-files",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^data:font\// }, ({ path: uri }) => {
      const [, extension, base64] = /^data:font\/(\w+);base64,(.*)$/s.exec(uri);
      const name = createHash("sha256").update(base64).digest("hex");
      return { path: `${name}.${extension}`, namespace: "font", pluginData: base64 };
    });
    onLoad({ filter: /./, namespace: "font" }, ({ pluginData }) => ({
      contents: Buffer.from(pluginData, "base64"),
      loader: "file",
    }));
  },
};

function bundle(entryPoints, { define = {}, plugins = [] } = {}) {
  return build({
    entryPoints,
    plugins,
    define: { ...PRODUCTION, ...define },
    outdir: `${OUT}/assets`,
    entryNames: "[name]-[hash]",
    assetNames: "[hash]",
    alias: ALIASES,
    loader: { ".ttf": "file" },
    bundle: true,
    splitting: true,
    minify: true,
    format: "esm",
    target: "es2022",
    jsx: "automatic",
    metafile: true,
    write: false,
    logLevel: "warning",
    legalComments: "none",
  });
}

const outputOf = ({ metafile: { outputs } }, entry) =>
  Object.keys(outputs).find((path) => outputs[path].entryPoint === entry && path.endsWith(".js"));

function withImports(outputs, path, found = new Set()) {
  if (found.has(path)) return found;
  found.add(path);
  for (const { path: imported, kind } of outputs[path].imports) {
    if (kind === "import-statement") withImports(outputs, imported, found);
  }
  return found;
}

/** The head's tags: the style sheet, the program, and the chunks it will ask for. */
function tags(page) {
  const { outputs } = page.metafile;
  const main = outputOf(page, "src/main.jsx");
  const late = Object.keys(outputs).filter((path) => PRELOADED.test(outputs[path].entryPoint ?? ""));
  const chunks = [main, ...late.filter((path) => path.endsWith(".js"))].map((path) => [...withImports(outputs, path)]);
  // Relative addresses: they hold behind a proxy that serves the application under a prefix.
  const address = (path) => `explorer/assets/${basename(path)}`;
  return [
    `<link rel="stylesheet" href="${address(outputs[main].cssBundle)}">`,
    ...[...new Set(chunks.flat())].map((path) => `<link rel="modulepreload" href="${address(path)}">`),
    `<script type="module" src="${address(main)}"></script>`,
  ].join("\n    ");
}

async function write(path, contents) {
  const packed = [".js", ".css", ".ttf", ".html", ".svg"].includes(extname(path));
  await writeFile(path, contents);
  if (!packed) return;
  await writeFile(`${path}.br`, await promisify(brotliCompress)(contents));
  await writeFile(`${path}.gz`, await promisify(gzip)(contents, { level: 9 }));
}

async function main() {
  const workers = await bundle(Object.values(WORKERS));
  const urls = Object.entries(WORKERS).map(([label, entry]) => [label, basename(outputOf(workers, entry))]);
  const define = { WORKERS: JSON.stringify(Object.fromEntries(urls)) };
  const page = await bundle(["src/main.jsx"], { define, plugins: [leanMonaco, fontFiles] });
  // The entry's style sheet has the styles of the lazy chunks too; nothing links the copies made for each of those.
  const isCopy = (path) => path.endsWith(".css") && !basename(path).startsWith("main-");
  const files = [...workers.outputFiles, ...page.outputFiles].filter(({ path }) => !isCopy(path));

  await rm(OUT, { recursive: true, force: true });
  await mkdir(`${OUT}/assets`, { recursive: true });
  await Promise.all(files.map(({ path, contents }) => write(path, contents)));
  const html = await readFile("src/index.html", "utf8");
  await writeFile(`${OUT}/index.html`, html.replace("<!-- assets -->", tags(page)));
  await rm("dist", { recursive: true, force: true });
  await rename(OUT, "dist");
}

await main();
