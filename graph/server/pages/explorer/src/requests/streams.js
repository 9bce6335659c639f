// Subscriptions that are open: they go on while other tabs are used, so that one window can both cause an event and see it.
import { create } from "zustand";

const KEPT_EVENTS = 100;

export const useStreams = create(() => ({ streams: [] }));

const change = (id, edit) =>
  useStreams.setState(({ streams }) => ({
    streams: streams.map((stream) => (stream.id === id ? { ...stream, ...edit(stream) } : stream)),
  }));

/** Opens a stream for a tab; one that the tab had before is stopped and forgotten. */
export function open({ tabId, name, start }) {
  forget(({ tabId: other }) => other === tabId);
  const id = crypto.randomUUID();
  useStreams.setState(({ streams }) => ({
    streams: [...streams, { id, tabId, name, events: [], count: 0, live: true }],
  }));
  const finish = () => change(id, () => ({ live: false }));
  const end = start({
    next: (result) => change(id, (stream) => received(stream, result)),
    complete: finish,
  });
  const stop = () => {
    end();
    finish();
  };
  change(id, () => ({ stop }));
  return stop;
}

function received({ events, count }, result) {
  const event = { id: count + 1, at: new Date(), result };
  return { events: [event, ...events].slice(0, KEPT_EVENTS), count: count + 1 };
}

/** Drops the streams that match, and stops those still live. */
export function forget(matches) {
  const { streams } = useStreams.getState();
  const [dropped, rest] = [streams.filter(matches), streams.filter((stream) => !matches(stream))];
  if (dropped.length === 0) return;
  useStreams.setState({ streams: rest });
  for (const { live, stop } of dropped) if (live) stop?.();
}
