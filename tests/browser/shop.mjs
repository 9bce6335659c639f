// Scenarios for tests/server/pages/test_shop.py: `node shop.mjs NAME URL [FOLDER]` prints what was seen, as JSON.
import { join } from "node:path";
import { browse, violations } from "./browser.mjs";

const [, , name, url, folder] = process.argv;

const picture = (page, title) => folder && page.screenshot({ path: join(folder, `shop-${title}.png`), fullPage: true });

async function open(page) {
  await page.goto(`${url}/shop`);
  await page.locator("#items li").first().waitFor();
}

/** Types a search and waits until its answer is shown. */
async function search(page, text) {
  const answered = page.waitForResponse((response) => response.request().postData()?.includes(`"search":${JSON.stringify(text)}`));
  await page.getByLabel("Search the catalogue").fill(text);
  await answered;
}

const status = (page, text) => page.locator("#status", { hasText: text }).waitFor();

/** As a person sees them: names with what is marked between brackets. */
const names = (page) =>
  page.locator("#items h3").evaluateAll((headings) =>
    headings.map((heading) => [...heading.childNodes].map((node) => (node.nodeName === "MARK" ? `[${node.textContent}]` : node.textContent)).join("")),
  );

const labels = async (page, part) => (await page.locator(`${part} label`).allInnerTexts()).map((text) => text.trim());

const scenarios = {
  finds: () =>
    browse({}, async (page, seen) => {
      await open(page);
      const all = { status: await page.locator("#status").innerText(), tags: await labels(page, "#tags") };
      await search(page, "kettl");
      await status(page, "2 items");
      const kettles = { names: await names(page), tags: await labels(page, "#tags"), price: await labels(page, "#price"), stock: await labels(page, "#stock") };
      await picture(page, "search");
      await page.getByLabel("copper (1)").check();
      await status(page, "1 item");
      const copper = { names: await names(page), tags: await labels(page, "#tags"), focus: await page.evaluate(() => document.activeElement.id) };
      await page.getByLabel("copper (1)").uncheck();
      await search(page, "ketlte");
      await page.locator("#meant").waitFor();
      const near = { meant: await page.locator("#meant").innerText(), names: await names(page) };
      await picture(page, "near");
      await page.locator("#correct").click();
      await page.locator("#meant").waitFor({ state: "hidden" });
      const corrected = await page.getByLabel("Search the catalogue").inputValue();
      await search(page, "strass");
      await status(page, "1 item");
      const folded = await names(page);
      return { all, kettles, copper, near, corrected, folded, hosts: [...seen.hosts], complaints: seen.complaints };
    }),

  lives: () =>
    browse({}, async (page, seen) => {
      await open(page);
      await search(page, "samovar");
      await status(page, "1 item");
      const left = page.locator("#items .left");
      const before = await left.innerText();
      process.stderr.write("shown\n"); // Now somebody else buys the last one.
      await left.filter({ hasText: "sold out" }).waitFor();
      return { before, after: await left.innerText(), disabled: await page.locator("#items button").isDisabled(), complaints: seen.complaints };
    }),

  buys: () =>
    browse({}, async (page, seen) => {
      await open(page);
      await search(page, "kettle");
      await status(page, "2 items");
      const buy = page.getByRole("button", { name: "Buy" });
      for (const add of await page.getByRole("button", { name: /to the basket/ }).all()) await add.click();
      await page.locator("#basket input").first().fill("2");
      await page.locator("#basket input").first().press("Tab");
      const disabled = await buy.isDisabled();
      await page.getByLabel("Username").fill("grace");
      await page.getByLabel("Password").fill("a compiler at last");
      await page.getByRole("button", { name: "Make an account" }).click();
      await page.getByText("Signed in as grace.").waitFor();
      const total = await page.locator("#total").innerText();
      await picture(page, "basket");
      await buy.click();
      await page.locator("#order", { hasText: "€" }).waitFor();
      const focus = await page.evaluate(() => document.activeElement.id);
      return { disabled, total, focus, told: await page.locator("#order").innerText(), lines: await page.locator("#basket li").count(), complaints: seen.complaints };
    }),

  accessible: async () => {
    const found = {};
    for (const dark of [false, true]) {
      await browse({ dark }, async (page) => {
        await open(page);
        await search(page, "kettle");
        await page.getByRole("button", { name: /to the basket/ }).first().click();
        found[dark ? "dark" : "light"] = await violations(page);
        await picture(page, dark ? "dark" : "light");
      });
    }
    await browse({ width: 400 }, async (page) => {
      await open(page);
      found.narrow = await violations(page);
      found.filters = await page.locator("#filters").isVisible();
      found.overflow = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      await picture(page, "narrow");
    });
    return found;
  },

  keyboard: () =>
    browse({}, async (page) => {
      await open(page);
      const names = [];
      for (let step = 0; step < 6; step += 1) {
        await page.keyboard.press("Tab");
        names.push(await page.evaluate(() => document.activeElement.id));
      }
      await page.locator("#in-stock").focus();
      await page.keyboard.press("Space");
      await page.locator("#in-stock:checked").waitFor();
      const headings = await page.locator("h1, h2, h3").evaluateAll((all) => all.slice(0, 3).map(({ tagName }) => tagName));
      return { names, checked: await page.evaluate(() => document.activeElement.id), headings, live: await page.locator("[role=status]").count() };
    }),
};

console.log(JSON.stringify(await scenarios[name]()));
