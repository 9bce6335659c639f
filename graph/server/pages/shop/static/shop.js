// A shop in one file, as an example for those who write one: as-you-type search, facets, highlights, live stock and a basket.
// From the top: what it asks, what it knows, how it asks, how it shows, and what happens when somebody does something.

const ITEMS = `
  query ShopItems($search: String, $filter: ItemFilter, $after: String) {
    items(search: $search, filter: $filter, after: $after, first: 20, orderBy: { field: RELEVANCE }) {
      matching
      didYouMean
      totalCount
      pageInfo { endCursor hasNextPage }
      edges { highlights { field start length } node { id name description price inventory } }
      facets {
        precision
        tags(first: 12) { tag count selected }
        price { buckets { from to count } }
        stock { inStock outOfStock }
      }
    }
  }`;
const STOCK = `
  subscription ShopStock($ids: [ID!]) {
    itemEvents(itemIds: $ids) { ... on ItemChange { itemId item { inventory } } }
  }`;
const SIGN_UP = `
  mutation ShopSignUp($username: String!, $password: String!) {
    result: signup(input: { username: $username, password: $password }) { __typename ... on Error { message } }
  }`;
const SIGN_IN = `
  mutation ShopSignIn($username: String!, $password: String!) {
    result: token(username: $username, password: $password) { __typename ... on Token { accessToken } ... on Error { message } }
  }`;
const BUY = `
  mutation ShopBuy($lines: [PurchaseLineInput!]!, $key: String) {
    result: purchaseItems(lines: $lines, idempotencyKey: $key) {
      __typename
      ... on PurchaseItems { total }
      ... on OutOfStock { itemId available }
      ... on Error { message }
    }
  }`;

const chosen = { search: "", tags: new Set(), price: null, inStock: false };
const shown = new Map(); // Items by id, as they are in the list.
const basket = new Map(); // Units by item id.
const known = new Map(); // Every item that was seen, by id: those in the basket may be in no list any more.
let cursor = null;
let token = null;
let orderKey = null; // The same for every attempt at one order, so that it is placed once.

const $ = (id) => document.getElementById(id);

/** Makes an element; a function among its properties listens to that event. */
function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Replaces what is in an element, and keeps the keyboard where it was. */
function fill(element, ...children) {
  const focused = document.activeElement?.id;
  element.replaceChildren(...children);
  if (focused && element.querySelector(`#${CSS.escape(focused)}`)) $(focused).focus();
}

async function ask(query, variables, signal) {
  const headers = { "Content-Type": "application/json", Accept: "application/graphql-response+json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch("graphql", { method: "POST", headers, signal, body: JSON.stringify({ query, variables }) });
  const { data, errors } = await response.json();
  if (errors) throw new Error(errors[0].message);
  return data;
}

// -- Finding ----------------------------------------------------------------------------------------------------------------------------

let asking = new AbortController();

/** Asks for the list as it is chosen, or for what follows it, and shows it; a newer question ends an older one. */
async function find({ more = false } = {}) {
  asking.abort();
  asking = new AbortController();
  const filter = {
    tagsAny: chosen.tags.size ? [...chosen.tags] : null,
    priceMin: chosen.price?.from ?? null,
    priceMax: chosen.price?.to ? (Number(chosen.price.to) - 0.01).toFixed(2) : null,
    inStock: chosen.inStock || null,
  };
  try {
    const { items } = await ask(ITEMS, { search: chosen.search || null, filter, after: more ? cursor : null }, asking.signal);
    show(items, more);
  } catch (error) {
    if (error.name !== "AbortError") $("status").textContent = error.message;
  }
}

function show(items, more) {
  cursor = items.pageInfo.endCursor;
  $("more").hidden = !items.pageInfo.hasNextPage;
  $("status").textContent = `${items.totalCount}${items.totalCount >= 10_000 ? " or more" : ""} item${items.totalCount === 1 ? "" : "s"}`;
  $("meant").hidden = items.matching !== "NEAR";
  if (items.matching === "NEAR") {
    const correct = () => search(items.didYouMean);
    fill($("meant"), "No item has these words. Shown: ", make("button", { type: "button", id: "correct", click: correct }, items.didYouMean));
  }
  showFacets(items.facets);
  if (!more) shown.clear();
  for (const { node } of items.edges) known.set(node.id, node), shown.set(node.id, node);
  const articles = items.edges.map(article);
  if (more) {
    $("items").append(...articles);
    articles[0]?.querySelector("button").focus();
  } else fill($("items"), ...articles);
  listen([...shown.keys()]);
}

function article({ node, highlights }) {
  const text = (field) => marked(node[field] ?? "", highlights.filter((each) => each.field === field));
  const add = () => order(node.id, (basket.get(node.id) ?? 0) + 1);
  return make(
    "li",
    { id: `item-${node.id}` },
    make("h3", {}, ...text("name")),
    make("p", {}, ...text("description")),
    make("p", { className: "offer" }, `€ ${node.price} · `, make("span", { className: "left" }, stockOf(node))),
    make("button", { type: "button", id: `add-${node.id}`, "aria-label": `Add ${node.name} to the basket`, disabled: !node.inventory, click: add }, "Add"),
  );
}

const stockOf = ({ inventory }) => (inventory ? `${inventory} left` : "sold out");

/** A text in parts, those that were searched for in <mark>: start and length count as JavaScript does. */
function marked(text, highlights) {
  const parts = [];
  let end = 0;
  for (const { start, length } of highlights) {
    parts.push(text.slice(end, start), make("mark", {}, text.slice(start, start + length)));
    end = start + length;
  }
  return [...parts, text.slice(end)];
}

function showFacets({ tags, price, stock, precision }) {
  const count = (number) => ` (${number}${precision === "AT_LEAST" ? "+" : ""})`;
  const choice = (type, id, text, checked, change) =>
    make("label", {}, make("input", { type, id, name: type === "radio" ? "price" : id, checked, change }), ` ${text}`);
  const listed = new Set(tags.map(({ tag }) => tag));
  const rest = [...chosen.tags].filter((tag) => !listed.has(tag)).map((tag) => ({ tag, count: 0 }));
  const toggle = (tag) => () => (chosen.tags.delete(tag) || chosen.tags.add(tag), find());
  const range = ({ from, to }) => (from === null ? `below € ${to}` : to === null ? `from € ${from}` : `€ ${from} to below ${to}`);
  const pick = (bucket) => () => ((chosen.price = bucket), find());
  const same = ({ from, to }) => chosen.price?.from === from && chosen.price?.to === to;
  const buckets = price.buckets.filter((bucket) => bucket.count || same(bucket));
  const legend = (text) => make("legend", {}, text);
  fill(
    $("tags"),
    legend("Tags"),
    ...[...tags, ...rest].map(({ tag, count: number }) => choice("checkbox", `tag-${tag}`, tag + count(number), chosen.tags.has(tag), toggle(tag))),
  );
  fill(
    $("price"),
    legend("Price"),
    choice("radio", "price-any", "any", chosen.price === null, pick(null)),
    ...buckets.map((bucket) => choice("radio", `price-${bucket.from}`, range(bucket) + count(bucket.count), same(bucket), pick(bucket))),
  );
  const onlyStocked = () => ((chosen.inStock = !chosen.inStock), find());
  fill($("stock"), legend("Stock"), choice("checkbox", "in-stock", `in stock${count(stock.inStock)}`, chosen.inStock, onlyStocked));
}

function search(text) {
  $("search").value = text;
  chosen.search = text.trim();
  $("search").focus();
  find();
}

// -- Live stock (graphql-transport-ws) -------------------------------------------------------------------------------------------------

let socket = null;
let streams = 0;

function listen(ids) {
  const subscribe = () => {
    if (streams) socket.send(JSON.stringify({ type: "complete", id: `${streams}` }));
    streams += 1;
    if (ids.length) socket.send(JSON.stringify({ type: "subscribe", id: `${streams}`, payload: { query: STOCK, variables: { ids } } }));
  };
  if (socket?.ready) return subscribe();
  socket?.close();
  const opened = (socket = new WebSocket(new URL("graphql", location.href).href.replace(/^http/, "ws"), "graphql-transport-ws"));
  streams = 0;
  opened.onopen = () => opened.send(JSON.stringify({ type: "connection_init" }));
  opened.onmessage = ({ data }) => {
    const { type, payload } = JSON.parse(data);
    if (type === "connection_ack") (opened.ready = true), subscribe();
    if (type === "ping") opened.send(JSON.stringify({ type: "pong" }));
    if (type === "next") changed(payload.data?.itemEvents);
  };
  // Whatever was missed meanwhile is in the list when it is asked for anew.
  opened.onclose = () => opened === socket && ((socket = null), setTimeout(find, 2000));
}

function changed(event) {
  const node = shown.get(event?.itemId);
  if (!node) return;
  node.inventory = event.item?.inventory ?? 0;
  $(`item-${node.id}`).querySelector(".left").textContent = stockOf(node);
  $(`add-${node.id}`).disabled = !node.inventory;
}

// -- Basket ------------------------------------------------------------------------------------------------------------------------------

function order(id, units) {
  orderKey = null;
  if (units > 0) basket.set(id, units);
  else basket.delete(id);
  showBasket();
}

function showBasket() {
  const cents = [...basket].reduce((sum, [id, units]) => sum + units * Math.round(Number(known.get(id).price) * 100), 0);
  const line = ([id, units]) => {
    const { name } = known.get(id);
    const change = ({ target }) => order(id, Number.parseInt(target.value, 10) || 0);
    return make(
      "li",
      {},
      make("label", {}, `${name} `, make("input", { id: `units-${id}`, type: "number", min: 0, value: units, change })),
      make("button", { type: "button", "aria-label": `Remove ${name}`, click: () => order(id, 0) }, "Remove"),
    );
  };
  fill($("basket"), ...[...basket].map(line));
  const total = `€ ${(cents / 100).toFixed(2)}`;
  $("total").textContent = basket.size ? `Together ${total}` : "Nothing yet.";
  $("to-basket").textContent = `Basket: ${total}`;
  $("to-basket").hidden = !basket.size;
  $("buy").disabled = !basket.size || !token;
}

async function buy() {
  $("buy").disabled = true;
  orderKey ??= [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const lines = [...basket].map(([itemId, quantity]) => ({ itemId, quantity }));
  try {
    const { result } = await ask(BUY, { lines, key: orderKey });
    if (result.__typename === "PurchaseItems") {
      basket.clear();
      orderKey = null;
      $("order").textContent = `Bought for € ${result.total}. Thank you!`;
    } else if (result.__typename === "OutOfStock") {
      $("order").textContent = `Nothing was bought: of ${known.get(result.itemId).name} there are ${result.available} left.`;
    } else $("order").textContent = result.message;
  } catch (error) {
    $("order").textContent = `${error.message} Try again: you will not pay twice.`;
  }
  showBasket();
  $("order").focus(); // Read out; and the button may be disabled by now.
}

async function signIn(event) {
  event.preventDefault();
  const { username, password } = Object.fromEntries(new FormData(event.target));
  const variables = { username, password };
  try {
    const steps = event.submitter?.value === "signUp" ? [SIGN_UP, SIGN_IN] : [SIGN_IN];
    for (const step of steps) {
      const { result } = await ask(step, variables);
      if (result.message) throw new Error(result.message);
      token = result.accessToken ?? token;
    }
    event.target.remove();
    $("order").textContent = `Signed in as ${username}.`;
    showBasket();
    $(basket.size ? "buy" : "order").focus(); // What had the keyboard is gone.
  } catch (error) {
    $("order").textContent = error.message;
  }
}

// -- What people do ------------------------------------------------------------------------------------------------------------------

let typing;
$("search").addEventListener("input", ({ target }) => {
  clearTimeout(typing);
  chosen.search = target.value.trim();
  typing = setTimeout(find, 120);
});
for (const id of ["finder", "filters"]) $(id).addEventListener("submit", (event) => event.preventDefault());
$("more").addEventListener("click", () => find({ more: true }));
$("narrow").open = matchMedia("(min-width: 60rem)").matches; // A telephone shows items first.
$("buy").addEventListener("click", buy);
$("account").addEventListener("submit", signIn);
showBasket();
find();
