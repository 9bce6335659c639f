// A headless Chromium with a new profile, and what a page of it was seen to do.
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/** Runs `scenario(page, seen)` and answers with its result; `seen` fills up meanwhile. */
export async function browse({ dark = false, width = 1440, height = 900 }, scenario) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
  try {
    const context = await browser.newContext({
      viewport: { width, height },
      colorScheme: dark ? "dark" : "light",
      // axe is put into the page as a script; only the accessibility scenarios ask for that.
      bypassCSP: false,
    });
    const page = await context.newPage();
    return await scenario(page, watch(page));
  } finally {
    await browser.close();
  }
}

function watch(page) {
  const seen = { hosts: new Set(), complaints: [], frames: [], posts: [] };
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "data:") seen.hosts.add(url.host);
    if (request.method() === "POST") seen.posts.push({ headers: request.headers(), body: request.postDataJSON() });
  });
  page.on("websocket", (socket) => {
    seen.hosts.add(new URL(socket.url()).host);
    socket.on("framesent", ({ payload }) => seen.frames.push(JSON.parse(payload)));
  });
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) seen.complaints.push(message.text());
  });
  page.on("pageerror", (error) => seen.complaints.push(error.message));
  page.on("requestfailed", (request) => seen.complaints.push(`${request.url()}: ${request.failure()?.errorText}`));
  return seen;
}

/** What axe finds against WCAG 2 A and AA, as "rule: selector". */
export async function violations(page) {
  const source = await import("node:fs/promises").then(({ readFile }) => readFile(AXE, "utf8"));
  await page.evaluate(source);
  const { violations: found } = await page.evaluate(() =>
    window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }),
  );
  return found.flatMap(({ id, nodes }) => nodes.map(({ target }) => `${id}: ${target.join(" ")}`));
}
