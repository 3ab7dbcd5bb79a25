/**
 * Where a server of OpenAI's API is, as a person names it. The launcher reads it, too, so that Deno lets the program reach
 * nothing else.
 *
 * @module
 */

/** A server's address. */
export interface ServerUrl {
  /** What the API's paths follow: `http://127.0.0.1:8080/v1`. */
  readonly base: string;
  /** Host and port, as Deno's permissions name them. */
  readonly address: string;
}

/**
 * The server at a URL; undefined where that is none of `http:` or `https:`, or has a name, a question or an anchor in it. A
 * URL without a path is that of the API's version 1.
 */
export function serverUrl(given: string): ServerUrl | undefined {
  if (!URL.canParse(given)) return undefined;
  const { protocol, hostname, port, pathname, username, password, search, hash } = new URL(given);
  const isWeb = protocol === "http:" || protocol === "https:";
  // A comma would name two hosts to Deno.
  const isNamed = /^([\w.-]+|\[[\da-f:.]+\])$/i.test(hostname);
  if (!isWeb || !isNamed || username + password + search + hash !== "") return undefined;
  const address = `${hostname}:${port || (protocol === "http:" ? 80 : 443)}`;
  const path = pathname.replace(/\/+$/, "") || "/v1";
  return { base: `${protocol}//${hostname}${port && `:${port}`}${path}`, address };
}
