// A new profile in the Chromium that runs at BROWSER, and what a page of it was seen to do.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"];

/** Runs `scenario(page, seen)` and answers with its result; `seen` fills up meanwhile. */
export async function browse({ dark = false, width = 1440, height = 900 }, scenario) {
  const browser = await chromium.connectOverCDP(process.env.BROWSER);
  const profile = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? "dark" : "light" });
  try {
    const page = await profile.newPage();
    return await scenario(page, watch(page));
  } finally {
    await profile.close();
    await browser.close(); // The connection; Chromium runs on for others.
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

/** What axe finds against WCAG 2 A and AA in a part of the page, as "rule: selector". */
export async function violations(page, part = "html") {
  await page.evaluate(AXE);
  const { violations: found } = await page.evaluate(
    ([part, runOnly]) => window.axe.run(part, { runOnly }),
    [part, RULES],
  );
  return found.flatMap(({ id, nodes }) => nodes.map(({ target }) => `${id}: ${target.join(" ")}`));
}
