// What open subscriptions have told, newest first, below the response.
import { useStreams, forget } from "../requests/streams.js";

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });

export function LiveEvents() {
  const streams = useStreams(({ streams }) => streams);
  if (streams.length === 0) return null;
  return (
    <section className="live-events" aria-label="Live events">
      {streams.map((stream) => (
        <Stream key={stream.id} {...stream} />
      ))}
    </section>
  );
}

function Stream({ id, name, events, count, live, stop }) {
  return (
    <article className="stream">
      <header>
        <span className={live ? "lamp on" : "lamp"} aria-hidden="true" />
        <h3>{name}</h3>
        <span className="count">
          {count} {count === 1 ? "event" : "events"}
          {live ? "" : ", ended"}
        </span>
        {live ? (
          <button type="button" onClick={stop} aria-label={`Stop ${name}`}>
            Stop
          </button>
        ) : (
          <button type="button" onClick={() => forget((stream) => stream.id === id)} aria-label={`Dismiss ${name}`}>
            Dismiss
          </button>
        )}
      </header>
      <ol role="log" aria-label={`Events of ${name}`} tabIndex={0}>
        {events.map((event) => (
          <Event key={event.id} {...event} />
        ))}
      </ol>
    </article>
  );
}

function Event({ at, result }) {
  const body = result.errors ? result : Object.values(result.data)[0];
  return (
    <li>
      <details>
        <summary className={result.errors ? "failed" : ""}>
          <time dateTime={at.toISOString()}>{clock.format(at)}</time>
          <code>{JSON.stringify(body)}</code>
        </summary>
        <pre>{JSON.stringify(body, null, 2)}</pre>
      </details>
    </li>
  );
}
