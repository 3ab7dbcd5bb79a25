/**
 * Who may ask: the page itself, on this machine or at the end of a tunnel, with the token.
 *
 * @module
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Context, MiddlewareHandler, Next } from "hono";

/** The names under which this machine knows itself. Another one is a page that had its name changed to this address. */
const OWN_NAMES: readonly string[] = ["127.0.0.1", "localhost", "[::1]"];

/** Characters of a request's address at most. */
const LONGEST_URL = 2000;

/** A token that nobody guesses: 192 random bits. */
export function newToken(): string {
  return randomBytes(24).toString("base64url");
}

/** Whether a Host header names this machine; the port is that of a tunnel's other end. */
export function isOwnHost(host: string | undefined): boolean {
  const [, name] = /^(\[[\da-f:]+\]|[^:]+)(?::\d{1,5})?$/i.exec(host ?? "") ?? [];
  return OWN_NAMES.includes(name?.toLowerCase());
}

/** Whether what a browser says of where a request comes from is the page that Host names. */
function isOwnOrigin(origin: string | undefined, host: string | undefined): boolean {
  return origin === undefined || origin === `http://${host}`;
}

/** Refuses what another site makes a browser send, and all that has no place here. */
export async function ownPageOnly(context: Context, next: Next): Promise<Response | void> {
  const { req } = context, host = req.header("host");
  if (!isOwnHost(host)) return context.text("This Host is not served here.", 403);
  if (!isOwnOrigin(req.header("origin"), host)) return context.text("Foreign Origin.", 403);
  // What follows a link, as from a terminal, comes from nowhere; a foreign site's requests say `cross-site`.
  const site = req.header("sec-fetch-site");
  if (site !== undefined && site !== "same-origin" && site !== "none") {
    return context.text("Foreign site.", 403);
  }
  if (req.url.length > LONGEST_URL) return context.text("The address is too long.", 414);
  // Nothing here takes a body.
  if (Number(req.header("content-length") ?? 0) > 0 || req.header("transfer-encoding")) {
    return context.text("A body is not expected.", 413);
  }
  await next();
}

/** Demands `Authorization: Bearer TOKEN`, which takes as long to refuse whatever was sent. */
export function withToken(token: string): MiddlewareHandler {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  const expected = digest(`Bearer ${token}`);
  return async (context, next) => {
    if (!timingSafeEqual(digest(context.req.header("authorization") ?? ""), expected)) {
      return context.text("The token is missing or wrong.", 401);
    }
    await next();
  };
}
