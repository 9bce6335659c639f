// GraphiQL's tabs as it last reported them, for code that runs outside its components.
import { forget } from "../requests/streams.js";

let state = { tabs: [], activeTabIndex: 0 };

export function onTabChange(reported) {
  state = reported;
  forget(({ tabId }) => !isOpen(tabId));
}

export const activeTabId = () => state.tabs[state.activeTabIndex]?.id;

export const isOpen = (tabId) => state.tabs.some(({ id }) => id === tabId);
