/**
 * Requests to a server that is measured.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";

/** A server's address, up to and with `/v1`, and a key that it may want. */
export interface Address {
  readonly url: string;
  readonly key?: string;
}

/**
 * Asks a server.
 *
 * @param path From the server's root on.
 * @param body Sent as JSON, where there is one.
 * @throws {UserError} where it can't be reached, or refuses.
 */
export async function ask(
  { url, key }: Address,
  path: string,
  body?: object,
): Promise<Response> {
  const headers = new Headers();
  if (key !== undefined) headers.set("Authorization", `Bearer ${key}`);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const method = body === undefined ? "GET" : "POST";
  let response: Response;
  try {
    response = await fetch(new URL(path, url), {
      method,
      headers,
      body: body && JSON.stringify(body),
    });
  } catch (error) {
    const { message, cause } = error as Error;
    throw new UserError(
      `${url} can't be asked: ${cause instanceof Error ? cause.message : message}`,
    );
  }
  if (response.ok) return response;
  throw new UserError(`${path}: the server answered ${response.status}: ${await response.text()}`);
}
