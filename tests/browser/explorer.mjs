// Scenarios for tests/server/pages/test_explorer.py: `node explorer.mjs NAME URL [FOLDER]` prints what was seen, as JSON.
// The assertions are in Python; with a folder, screenshots are left there for people.
import { join } from "node:path";
import { browse, violations } from "./browser.mjs";

const [, , name, url, folder] = process.argv;

const picture = (page, title) => folder && page.screenshot({ path: join(folder, `${title}.png`) });

const button = (page, label) => page.getByRole("button", { name: label });

const editor = (page, label) => page.locator(`section[aria-label="${label}"] .monaco-editor:visible`).first();

async function open(page) {
  await page.goto(`${url}/graphql`);
  await page.waitForSelector(".graphiql-query-editor .view-line");
}

/** Until the schema has come: then the editors check what is in them, and the cost is told. */
const introspected = (page) => page.waitForFunction(() => !document.querySelector(".graphiql-spin, .graphiql-spinner"));

/** The text of an editor; what is on the screen is wrapped and cut to the window. */
const text = (page, file) =>
  page.evaluate(
    (name) =>
      globalThis.__MONACO.editor
        .getModels()
        .find(({ uri }) => uri.path.endsWith(name))
        .getValue(),
    file,
  );

const put = (page, file, value) =>
  page.evaluate(
    ([name, value]) =>
      globalThis.__MONACO.editor
        .getModels()
        .find(({ uri }) => uri.path.endsWith(name))
        .setValue(value),
    [file, value],
  );

/** Asks again until it is so, for 20 seconds at most; answers with what was found. */
async function until(ask, isSo) {
  const end = Date.now() + 20_000;
  for (;;) {
    const found = await ask();
    if (isSo(found)) return found;
    if (Date.now() > end) throw new Error(`This did not change in 20 s: ${found}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Opens a tab, and waits until the ids at hand are filled in. */
async function tab(page, title) {
  await page.locator(`.graphiql-tab-button[title="${title}"]`).click();
  await until(
    () => text(page, "variables.json"),
    (variables) => !variables.includes("<"),
  );
}

/** Runs the tab that is open, and answers with the first response. */
async function run(page) {
  await page.locator(".graphiql-execute-button").click();
  return response(page);
}

const response = async (page) => JSON.parse(await until(() => text(page, "response.json"), Boolean));

const GRACE = { username: "grace", password: "a compiler at last" };

async function signIn(page, { username, password }) {
  await page.getByLabel("Username").fill(username);
  await page.getByLabel("Password").fill(password);
  await page.locator(".session button[type=submit]").click();
}

/** Revokes a token as another client would, behind the explorer's back. */
const revoke = (page, token) =>
  page.request.post(`${url}/graphql`, {
    data: {
      query: "mutation Revoke($token: String!) { revokeToken(token: $token) { __typename } }",
      variables: { token },
    },
  });

/** What was sent for the operation of this name, latest first. */
const sent = (seen, operation) =>
  seen.posts
    .filter(({ body }) => body.query.includes(` ${operation}`))
    .map(({ headers }) => headers.authorization ?? null)
    .reverse();

const kept = (page) => page.evaluate(() => JSON.parse(sessionStorage.getItem("storegraph:session")));

/** Waits for a stream's first event, for a second at most. */
const event = (page, name) =>
  page
    .locator(`[aria-label="Events of ${name}"] li`)
    .first()
    .waitFor({ timeout: 1000 })
    .then(
      () => true,
      () => false,
    );

/** Each stream as it is shown: its name, what is said of it, and its events from the newest. */
const streams = (page) =>
  page.locator(".stream").evaluateAll((articles) =>
    articles.map((article) => ({
      name: article.querySelector("h3").innerText,
      count: article.querySelector(".count").innerText,
      events: [...article.querySelectorAll("summary code")].map((code) => JSON.parse(code.innerText)),
    })),
  );

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
        query: await text(page, "operation.graphql"),
        variables: JSON.parse(await text(page, "variables.json")),
        hosts: [...seen.hosts],
        complaints: seen.complaints,
      };
    }),

  accessible: async () => {
    const panels = ["Documentation Explorer", "Examples", "Session", "Sales", "History"];
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

  tour: () =>
    browse({}, async (page, seen) => {
      await open(page);
      await introspected(page);
      const told = {};
      for (const title of ["SignUp", "GetToken", "CreateItem", "SearchItems", "Purchase", "Echo", "SendEcho"]) {
        await tab(page, title);
        told[title] = await run(page);
        await picture(page, `tour-${title}`);
      }
      const signedIn = await page.locator(".who").innerText();

      await tab(page, "ItemEvents");
      await page.locator(".graphiql-execute-button").click();
      await tab(page, "CreateItem");
      // The stream may not be open yet when the first item is there.
      do await run(page);
      while (!(await event(page, "ItemEvents")));
      await tab(page, "PurchaseStatus");
      told.PurchaseStatus = await run(page);
      for (const title of ["PurchaseItems", "Purchases", "CancelPurchase", "AdjustInventory", "UpsertItems"]) {
        await tab(page, title);
        told[title] = await run(page);
        await picture(page, `tour-${title}`);
      }
      await page.getByText(/[12] events?, ended/).waitFor();
      await picture(page, "tour-events");

      return {
        told,
        signedIn,
        streams: await streams(page),
        initialisations: seen.frames
          .filter(({ type }) => type === "connection_init")
          .map(({ payload }) => Object.keys(payload ?? {})),
        complaints: seen.complaints,
      };
    }),

  cost: () =>
    browse({}, async (page) => {
      await open(page);
      await introspected(page);
      const costs = [];
      const told = () => page.locator(".status-bar").innerText();
      await tab(page, "SearchItems");
      for (const first of [10, 50]) {
        const priced = page.waitForResponse((response) => response.request().postData()?.includes(`"first":${first}}`));
        await put(page, "variables.json", JSON.stringify({ search: "engine", first }));
        const { cost } = (await (await priced).json()).data.rateLimit;
        costs.push(await until(told, (text) => text.startsWith(`Cost ${cost} `)));
      }
      const document = await text(page, "operation.graphql");
      await put(page, "operation.graphql", "query Nonsense { nothing }");
      await until(told, (cost) => cost === "");
      return { document, costs };
    }),

  streams: () =>
    browse({}, async (page) => {
      await open(page);
      await tab(page, "Echo");
      await run(page);
      await tab(page, "SendEcho");
      await run(page);
      await page.getByText("2 events").waitFor();
      const open_ = await streams(page);
      await button(page, "Stop Echo").click();
      await page.getByText("2 events, ended").waitFor();
      await run(page);
      const stopped = await streams(page);
      await button(page, "Dismiss Echo").click();
      const dismissed = await streams(page);

      await tab(page, "Echo");
      await run(page);
      await page.locator(".graphiql-execute-button").click();
      await page.getByText("1 event, ended").waitFor();
      await run(page);
      const again = await streams(page);
      await button(page, "Close Tab").click();
      return { open: open_, stopped, dismissed, again, closed: await streams(page) };
    }),

  signsIn: () =>
    browse({}, async (page, seen) => {
      await open(page);
      await button(page, "Sign in").first().click();
      await signIn(page, { ...GRACE, password: "wrong" });
      const refusal = await page.locator(".session [role=alert]:not(:empty)").innerText();
      await signIn(page, GRACE);
      await button(page, GRACE.username).waitFor();
      await picture(page, "signed-in");
      const panel = await page.locator(".session").innerText();
      const session = await kept(page);
      await tab(page, "CreateItem");
      const created = await run(page);
      await button(page, "Sign out").click();
      await button(page, "Sign in").first().waitFor();
      const denied = await run(page);
      return {
        refusal,
        panel,
        created,
        denied,
        sent: sent(seen, "CreateItem").map((header) => header === `Bearer ${session.accessToken}`),
        revoked: sent(seen, "SignOut").length,
        kept: await kept(page),
        passwordKept: await page.evaluate(
          (password) => JSON.stringify([Object.values(localStorage), Object.values(sessionStorage)]).includes(password),
          GRACE.password,
        ),
        complaints: seen.complaints.filter((complaint) => !complaint.includes("401")),
      };
    }),

  sales: () =>
    browse({}, async (page, seen) => {
      const image = page.locator(".sales img");
      const shown = (by) => page.waitForFunction((by) => document.querySelector(`.sales img[alt$="by ${by}"]`)?.naturalWidth, by);
      await open(page);
      await button(page, "Show Sales").click();
      const strangers = await page.locator(".sales").innerText();
      await button(page, "Show Session").click();
      await signIn(page, GRACE);
      await button(page, "Show Sales").click();
      await shown("month");
      const month = await image.getAttribute("src");
      await page.getByLabel("A bar for each").selectOption("week");
      await page.waitForFunction((before) => document.querySelector(".sales img").src !== before, month);
      await shown("week");
      await picture(page, "sales");
      return { strangers, month, week: await image.getAttribute("src"), violations: await violations(page, ".graphiql-plugin"), complaints: seen.complaints };
    }),

  renews: () =>
    browse({}, async (page, seen) => {
      await page.clock.install();
      await open(page);
      await button(page, "Sign in").first().click();
      await signIn(page, GRACE);
      await button(page, GRACE.username).waitFor();
      const first = await kept(page);
      await page.clock.fastForward("28:30");
      const early = sent(seen, "Renew").length;
      const renewed = page.waitForResponse((response) => response.request().postData()?.includes("mutation Renew"));
      await page.clock.fastForward("01:00");
      await renewed;
      await page.waitForFunction(
        (token) => !sessionStorage.getItem("storegraph:session").includes(token),
        first.accessToken,
      );
      const second = await kept(page);
      await tab(page, "CreateItem");
      const created = await run(page);
      return {
        early,
        renewals: sent(seen, "Renew").length,
        created: created.data.createItem.__typename,
        newest: sent(seen, "CreateItem")[0] === `Bearer ${second.accessToken}`,
        name: await page.locator(".who").innerText(),
      };
    }),

  reconnects: () =>
    browse({}, async (page, seen) => {
      await open(page);
      await button(page, "Sign in").first().click();
      await signIn(page, GRACE);
      await button(page, GRACE.username).waitFor();
      const first = await kept(page);
      await tab(page, "Echo");
      await run(page);
      await revoke(page, first.accessToken);
      // The message is given when the stream begins: it comes again with the new socket.
      await page.getByText("2 events", { exact: true }).waitFor();
      const second = await kept(page);
      return {
        renewals: sent(seen, "Renew").length,
        tokens: seen.frames
          .filter(({ type }) => type === "connection_init")
          .map(({ payload }) =>
            [first, second].findIndex(({ accessToken }) => payload.Authorization === `Bearer ${accessToken}`),
          ),
        streams: await streams(page),
        name: await page.locator(".who").innerText(),
      };
    }),

  endsSession: () =>
    browse({}, async (page, seen) => {
      await open(page);
      await button(page, "Sign in").first().click();
      await signIn(page, GRACE);
      await button(page, GRACE.username).waitFor();
      await revoke(page, (await kept(page)).refreshToken);
      // A process may go on taking a revoked token for a second.
      await page.waitForTimeout(1100);
      await tab(page, "CreateItem");
      const denied = await run(page);
      return {
        denied,
        notice: await page.locator(".session [role=alert]:not(:empty)").innerText(),
        name: await page.locator(".who").innerText(),
        kept: await kept(page),
        asked: sent(seen, "CreateItem").map(Boolean),
      };
    }),

  headers: () =>
    browse({}, async (page, seen) => {
      await open(page);
      await button(page, "Sign in").first().click();
      await signIn(page, GRACE);
      await button(page, GRACE.username).waitFor();
      await tab(page, "CreateItem");
      await button(page, "Headers").click();
      await editor(page, "Headers").click();
      await page.keyboard.insertText('{"authorization": "Bearer by.hand.0"}');
      const denied = await run(page);
      return { denied, sent: sent(seen, "CreateItem"), name: await page.locator(".who").innerText() };
    }),

  schema: () =>
    browse({}, async (page, seen) => {
      await open(page);
      await button(page, "Show Documentation Explorer").click();
      await page.locator(".graphiql-doc-explorer-root-type").first().waitFor();
      await page.locator(".graphiql-plugin").getByText("Mutation", { exact: true }).click();
      await page.locator(".graphiql-plugin").getByText("createItem", { exact: true }).click();
      await picture(page, "schema");
      return {
        description: await page
          .locator(".graphiql-doc-explorer-content .graphiql-markdown-description")
          .first()
          .innerText(),
        violations: await violations(page, ".graphiql-plugin"),
        complaints: seen.complaints,
      };
    }),

  edits: () =>
    browse({}, async (page, seen) => {
      await open(page);
      await introspected(page);
      await editor(page, "Operation Editor").click();
      await page.keyboard.press("Control+A");
      await page.keyboard.type("query Names{items(first:2){edges{node{na");
      const suggestion = page.locator(".suggest-widget.visible .monaco-list-row.focused");
      // The language service may still be on its way: whoever gets nothing asks again.
      for (let asked = 0; asked < 10 && !(await suggestion.isVisible()); asked++) {
        await page.keyboard.press("Escape");
        await page.keyboard.press("Backspace");
        await page.keyboard.type("a");
        await page.keyboard.press("Control+Space");
        await suggestion.waitFor({ timeout: 3000 }).catch(() => {});
      }
      await suggestion.waitFor();
      const suggested = await suggestion.locator(".label-name").innerText();
      await page.keyboard.press("Enter");
      const typed = await text(page, "operation.graphql");
      await page.keyboard.press("Shift+Control+P");
      const pretty = await until(
        () => text(page, "operation.graphql"),
        (now) => now !== typed,
      );
      return { suggested, typed, pretty, complaints: seen.complaints };
    }),

  keyboard: () =>
    browse({}, async (page) => {
      await open(page);
      await introspected(page);
      const rings = {};
      for (let step = 0; step < 100; step++) {
        await page.keyboard.press("Tab");
        if (await page.evaluate(() => document.activeElement === document.body)) break; // All of them have had their turn.
        const [label, ring] = await page.evaluate(() => {
          const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
          const { ariaLabel, innerText, className } = document.activeElement;
          return [ariaLabel ?? (innerText.includes("\n") ? className : innerText), `${outlineStyle} ${outlineWidth}`];
        });
        rings[label] ??= ring;
      }
      await editor(page, "Operation Editor").click();
      await page.keyboard.press("Control+Enter");
      return { rings, result: await response(page) };
    }),
};

console.log(JSON.stringify(await scenarios[name]()));
