// Scenarios for tests/test_explorer.py: `node explorer.mjs NAME URL [FOLDER]` prints what was seen, as JSON.
// The assertions are in Python; with a folder, screenshots are left there for people.
import { join } from "node:path";
import { browse, violations } from "./browser.mjs";

const [, , name, url, folder] = process.argv;

const picture = (page, title) => folder && page.screenshot({ path: join(folder, `${title}.png`) });

const button = (page, label) => page.getByRole("button", { name: label });

const editor = (page, label) => page.locator(`section[aria-label="${label}"] .monaco-editor`).first();

async function open(page) {
  await page.goto(`${url}/graphql`);
  await page.waitForSelector(".graphiql-query-editor .view-line");
}

/** Until the schema has come: then the editors check what is in them, and the cost is told. */
const introspected = (page) => page.waitForFunction(() => !document.querySelector(".graphiql-spin, .graphiql-spinner"));

/** The text of an editor: Monaco draws blanks as no-break spaces. */
const shown = async (locator) => (await locator.locator(".view-lines").innerText()).replaceAll("\u00a0", " ");

/** Opens a tab, and waits until the ids at hand are filled in. */
async function tab(page, title) {
  await page.locator(`.graphiql-tab-button[title="${title}"]`).click();
  await page.waitForFunction(() => !document.querySelector(".graphiql-editor-tool").innerText.includes("<"));
}

/** Runs the tab that is open, and answers with the response when all of it is there. */
async function run(page) {
  await page.locator(".graphiql-execute-button").click();
  await page.waitForFunction(() => /^\{[^]*\n?\}$/.test(document.querySelector(".result-window .view-lines").innerText));
  return response(page);
}

const response = async (page) => JSON.parse(await shown(page.locator(".result-window")));

const scenarios = {
  opens: () =>
    browse({}, async (page, seen) => {
      const cdp = await page.context().newCDPSession(page);
      let bytes = 0;
      cdp.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
      await cdp.send("Network.enable");
      // The time the page's own thread worked: the same on a machine that others keep busy.
      await cdp.send("Performance.enable", { timeDomain: "threadTicks" });
      const began = performance.now();
      await open(page);
      const seconds = (performance.now() - began) / 1000;
      const { metrics } = await cdp.send("Performance.getMetrics");
      await introspected(page);
      await picture(page, "opens");
      return {
        seconds,
        threadSeconds: metrics.find((metric) => metric.name === "TaskDuration").value,
        bytes,
        title: await page.title(),
        lang: await page.locator("html").getAttribute("lang"),
        description: await page.locator("meta[name=description]").getAttribute("content"),
        headings: await page.locator("h1").allInnerTexts(),
        icon: await page.evaluate(async () => (await fetch(document.querySelector("link[rel=icon]").href)).status),
        tabs: await page.locator(".graphiql-tab-button").allInnerTexts(),
        query: await shown(page.locator(".graphiql-query-editor")),
        variables: JSON.parse(await shown(editor(page, "Variables"))),
        hosts: [...seen.hosts],
        complaints: seen.complaints,
      };
    }),

  accessible: async () => {
    const panels = ["Documentation Explorer", "Examples", "Session", "History"];
    const found = {};
    for (const dark of [false, true]) {
      await browse({ dark }, async (page) => {
        const theme = dark ? "dark" : "light";
        await open(page);
        await page.getByRole("button", { name: "Show Session" }).waitFor();
        found[theme] = await violations(page);
        for (const panel of panels) {
          await button(page, `Show ${panel}`).click();
          await button(page, `Hide ${panel}`).waitFor();
          found[`${theme}, ${panel}`] = await violations(page, ".graphiql-plugin");
          await picture(page, `accessible-${theme}-${panel}`);
        }
      });
    }
    return found;
  },

  plain: async () => {
    const found = {};
    for (const dark of [false, true]) {
      for (const path of ["/", "/docs"]) {
        await browse({ dark }, async (page, seen) => {
          await page.goto(url + path);
          await picture(page, `plain-${dark ? "dark" : "light"}-${path.slice(1) || "landing"}`);
          found[`${path} ${dark ? "dark" : "light"}`] = [...seen.complaints, ...(await violations(page))];
        });
      }
    }
    return found;
  },
};

console.log(JSON.stringify(await scenarios[name]()));
