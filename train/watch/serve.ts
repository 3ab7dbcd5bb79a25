/**
 * The page's socket, which only this machine reaches.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { watchApp } from "./app.ts";
import { newToken } from "./guard.ts";
import type { Runs } from "./runs.ts";

const HOST = "127.0.0.1";

/** A page that is served. */
export interface WatchPage {
  /** Its address, with the token behind `#`, where browsers keep it to themselves. */
  readonly url: string;
  /** Ends when the page is served no more. */
  readonly finished: Promise<void>;
  /** Serves it no more, once what was asked is answered. */
  close(): Promise<void>;
}

/**
 * Serves a page.
 *
 * @param port 0 for any that is free.
 * @throws {UserError} where the port can't be had.
 */
export function serveWatchPage(runs: Runs, port: number): WatchPage {
  const token = newToken();
  const app = watchApp(runs, token);
  try {
    const server = Deno.serve(
      { hostname: HOST, port, onListen: () => {} },
      (request) => app.fetch(request),
    );
    // Long files are being read while a browser starts.
    runs.poll(0);
    return {
      url: `http://${HOST}:${server.addr.port}/#${token}`,
      finished: server.finished,
      close: () => server.shutdown(),
    };
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse || error instanceof Deno.errors.PermissionDenied) {
      throw new UserError(
        `port ${port} is taken or not allowed; expected a free one, or 0 for any`,
      );
    }
    throw error;
  }
}
