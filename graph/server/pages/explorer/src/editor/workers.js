// Monaco's language services run in workers, served from this host: build.js puts their file names in WORKERS.
const named = { json: WORKERS.json, graphql: WORKERS.graphql };

globalThis.MonacoEnvironment = {
  getWorker: (_id, label) =>
    new Worker(new URL(`./${named[label] ?? WORKERS.editor}`, import.meta.url), { type: "module", name: label }),
};
