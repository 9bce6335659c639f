// The ids that examples need: taken from what the user has run, or else from the catalogue.
import { create } from "zustand";
import { post } from "./requests/transport.js";

export const ITEM = "<an item's id>";
export const PURCHASE = "<a purchase's id>";

export const useAtHand = create(() => ({ [ITEM]: null, [PURCHASE]: null }));

/** Remembers the latest item and purchase that an answer's root fields hold. */
export function notice({ data }) {
  for (const value of Object.values(data ?? {})) {
    if (!value?.id) continue;
    if (value.__typename === "Item") useAtHand.setState({ [ITEM]: value.id });
    if (value.__typename === "Purchase") useAtHand.setState({ [PURCHASE]: value.id });
  }
}

/** Puts the ids at hand in place of what stands for them; unknown ones stay. */
export async function filled(text) {
  if (text.includes(ITEM) && !useAtHand.getState()[ITEM]) await findItem();
  const known = Object.entries(useAtHand.getState()).filter(([, id]) => id);
  return known.reduce((result, [placeholder, id]) => result.replaceAll(placeholder, id), text);
}

async function findItem() {
  const { data } = await post({ query: "query ItemAtHand { items(first: 1) { edges { node { id } } } }" });
  const id = data?.items.edges[0]?.node.id;
  if (id) useAtHand.setState({ [ITEM]: id });
}
