/**
 * Who may ask a server of this machine: no page of another site, and whoever knows a key.
 *
 * @module
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

/** The names under which this machine knows itself. Another one is a page that had its name changed to this address. */
export const LOOPBACK_NAMES: readonly string[] = ["127.0.0.1", "localhost", "[::1]"];

/** Characters of a request's address at most. */
const LONGEST_URL = 2000;

/** Why a request is refused, for people. */
export interface Refusal {
  readonly status: 403 | 414;
  readonly message: string;
}

/** What is looked at of a request. */
export interface Asked {
  readonly url: string;
  header(name: string): string | undefined;
}

/** A token that nobody guesses: 192 random bits. */
export function newToken(): string {
  return randomBytes(24).toString("base64url");
}

/** The name in a Host header, in lower case; undefined where it is none. The port may be that of a tunnel's other end. */
export function hostName(host: string | undefined): string | undefined {
  return /^(\[[\da-f:]+\]|[^:@]+)(?::\d{1,5})?$/i.exec(host ?? "")?.[1].toLowerCase();
}

/** Whether a Host header names this machine. */
export function isLoopbackName(host: string | undefined): boolean {
  const name = hostName(host);
  return name !== undefined && LOOPBACK_NAMES.includes(name);
}

/** Whether a page of an origin is this server's own. */
function isOwn(origin: string, host: string | undefined, origins: readonly string[]): boolean {
  const name = hostName(host);
  // A page at the name of a proxy that came another way than by the proxy is anyone's.
  const isProxied = origins.some((own) => new URL(own).hostname === name);
  return origins.includes(origin) || (!isProxied && origin === `http://${host}`);
}

/**
 * Why a request is refused that another site may have made a browser send, or whose address is too long; undefined for
 * those that are not.
 *
 * @param isServed Whether a Host header names this server.
 * @param origins Origins under which a proxy shows this server: `https://models.example.org`.
 */
export function refusalOf(
  { url, header }: Asked,
  isServed: (host: string | undefined) => boolean,
  origins: readonly string[] = [],
): Refusal | undefined {
  const host = header("host"), origin = header("origin");
  if (!isServed(host)) return { status: 403, message: "This Host is not served here." };
  if (origin !== undefined && !isOwn(origin, host, origins)) {
    return { status: 403, message: "Foreign Origin." };
  }
  // What follows a link, as from a terminal, comes from nowhere; a foreign site's requests say `cross-site`.
  const site = header("sec-fetch-site");
  if (site !== undefined && site !== "same-origin" && site !== "none") {
    return { status: 403, message: "Foreign site." };
  }
  return url.length > LONGEST_URL
    ? { status: 414, message: "The address is too long." }
    : undefined;
}

/** What tells which of some keys an Authorization header bears, in the same time whatever was sent; −1 for none of them. */
export function bearerOf(keys: readonly string[]): (authorization: string | undefined) => number {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  const expected = keys.map((key) => digest(`Bearer ${key}`));
  return (authorization = "") => {
    // The scheme's name is of any case.
    const given = digest(authorization.replace(/^bearer +/i, "Bearer "));
    let found = -1;
    for (const [i, key] of expected.entries()) if (timingSafeEqual(given, key)) found = i;
    return found;
  };
}
