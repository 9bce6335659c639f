// The panel that signs in and out.
import { useState } from "react";
import { Button } from "@graphiql/react";
import { signIn, signOut, useSession } from "../requests/session.js";

const KeyIcon = (props) => (
  <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.5" {...props}>
    <circle cx="8" cy="15" r="4.25" />
    <path d="m11 12 8.5-8.5M15.5 7.5l3 3M18.5 4.5l2 2" strokeLinecap="round" strokeLinejoin="round" />
  </svg>
);

export const SESSION_PLUGIN = { title: "Session", icon: KeyIcon, content: SessionPanel };

function SessionPanel() {
  const { session, notice } = useSession();
  return (
    <section className="session" aria-labelledby="session-title">
      <h2 id="session-title">Session</h2>
      {session ? <SignedIn session={session} /> : <SignInForm notice={notice} />}
    </section>
  );
}

function SignInForm({ notice }) {
  const [problem, setProblem] = useState(notice);
  const [busy, setBusy] = useState(false);

  async function submit(event) {
    event.preventDefault();
    const { username, password } = event.currentTarget.elements;
    setBusy(true);
    setProblem(null);
    try {
      await signIn(username.value, password.value);
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
    }
  }

  return (
    <form onSubmit={submit}>
      <p>Your token is sent with every request and subscription, and renewed before it ends.</p>
      <label htmlFor="session-username">Username</label>
      <input id="session-username" name="username" autoComplete="username" required autoFocus />
      <label htmlFor="session-password">Password</label>
      <input id="session-password" name="password" type="password" autoComplete="current-password" required />
      <p role="alert" className="problem">
        {problem}
      </p>
      <button type="submit" className="primary" disabled={busy}>
        {busy ? "Signing in…" : "Sign in"}
      </button>
      <p className="hint">
        No account yet? Run the <b>SignUp</b> tab.
      </p>
    </form>
  );
}

function SignedIn({ session: { username, scopes, accessToken, renewAt } }) {
  return (
    <>
      <p role="status">
        Signed in as <b>{username ?? "…"}</b>.
      </p>
      <h3>Scopes</h3>
      <ul className="scopes">
        {scopes?.map((scope) => (
          <li key={scope}>
            <code>{scope}</code>
          </li>
        ))}
      </ul>
      {renewAt && <p className="hint">The token is renewed at {new Date(renewAt).toLocaleTimeString()}.</p>}
      <p className="hint">
        An <code>Authorization</code> written in the Headers editor is sent instead.
      </p>
      <div className="actions">
        <Button type="button" onClick={() => navigator.clipboard.writeText(accessToken)}>
          Copy token
        </Button>
        <Button type="button" onClick={signOut}>
          Sign out
        </Button>
      </div>
    </>
  );
}
