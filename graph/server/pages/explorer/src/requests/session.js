// Who is signed in: a token for this browser tab alone, renewed before it ends. The password is never kept.
import { create } from "zustand";
import { post } from "./transport.js";

const KEY = "storegraph:session";
const RENEW_BEFORE_END_MS = 60_000;
const TOKEN_FIELDS = "accessToken expiresIn refreshToken scopes";

export const useSession = create(() => ({ session: stored(), notice: null }));

let renewing = null;
let timer;

export async function signIn(username, password) {
  const query = `mutation SignIn($username: String!, $password: String!) {
    token(username: $username, password: $password) { __typename ... on Token { ${TOKEN_FIELDS} } ... on Error { message } }
  }`;
  const { data, errors } = await post({ query, variables: { username, password } });
  if (data?.token.__typename !== "Token") throw new Error(errors?.[0].message ?? data.token.message);
  await adopt(data.token);
}

/** Puts a token to use, whether the panel asked for it or a document in the editor did. */
export async function adopt({ accessToken, expiresIn, refreshToken, scopes }, username) {
  keep({ accessToken, refreshToken, scopes, username, renewAt: refreshToken && renewalOf(expiresIn * 1000) });
  if (username) return;
  const { data } = await post(
    { query: "query WhoAmI { me { username } }" },
    { Authorization: `Bearer ${accessToken}` },
  );
  const { session } = useSession.getState();
  if (data && session?.accessToken === accessToken) keep({ ...session, username: data.me.username });
}

export async function signOut() {
  const { session } = useSession.getState();
  keep(null);
  const query = "mutation SignOut($token: String!) { revokeToken(token: $token) { __typename } }";
  if (session?.refreshToken) await post({ query, variables: { token: session.refreshToken } });
}

/** The header to send, with a token that is renewed when it is about to end. */
export async function authorization() {
  const { session } = useSession.getState();
  // The timer below is late where the machine has slept.
  if (session?.renewAt <= Date.now()) await renew();
  const current = useSession.getState().session;
  return current ? { Authorization: `Bearer ${current.accessToken}` } : {};
}

/** A refresh token works once: calls that come while one is on its way share its answer. */
export function renew() {
  renewing ??= exchange().finally(() => (renewing = null));
  return renewing;
}

async function exchange() {
  const { session } = useSession.getState();
  const query = `mutation Renew($token: String!) {
    refreshToken(refreshToken: $token) { __typename ... on Token { ${TOKEN_FIELDS} } }
  }`;
  const answer = session?.refreshToken
    ? await post({ query, variables: { token: session.refreshToken } }).catch(() => null)
    : { data: null };
  // Out of reach is not refused: the token at hand may serve until the server is back.
  if (answer === null) return;
  if (answer.data?.refreshToken.__typename === "Token") await adopt(answer.data.refreshToken, session.username);
  else keep(null, "Your session has ended. Sign in again.");
}

function keep(session, notice = null) {
  if (session) sessionStorage.setItem(KEY, JSON.stringify(session));
  else sessionStorage.removeItem(KEY);
  useSession.setState({ session, notice });
  schedule(session);
}

function schedule(session) {
  clearTimeout(timer);
  // At least a second, so that a lifetime told wrong cannot spin.
  if (session?.renewAt) timer = setTimeout(renew, Math.max(session.renewAt - Date.now(), 1000));
}

/** A minute before the end, or half-way through a life shorter than two. */
const renewalOf = (lifetimeMs) => Date.now() + lifetimeMs - Math.min(RENEW_BEFORE_END_MS, lifetimeMs / 2);

function stored() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

schedule(useSession.getState().session);
