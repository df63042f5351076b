// Calls to the shop and to flask_refunds: the same server, the same token.

import * as session from "./session.js";

/**
 * Make one call.
 * @returns {Promise<{ok: boolean, status: number, body: object, retryAfter: string|null}>}
 * @throws {TypeError} when there is no answer: the call may or may not have been received.
 */
export async function call(path, { method = "GET", body, headers = {} } = {}) {
  const signedIn = session.current();
  if (signedIn) headers = { ...headers, Authorization: `Bearer ${signedIn.token}` };
  if (body !== undefined) headers = { ...headers, "Content-Type": "application/json" };
  const response = await fetch(path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401 && signedIn) {
    session.end();
    session.askToSignIn();
  }
  return {
    ok: response.ok,
    status: response.status,
    body: await response.json().catch(() => ({})),
    retryAfter: response.headers.get("Retry-After"),
  };
}

/** A key that nobody else has. `crypto.randomUUID` is missing on plain http beyond localhost. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
