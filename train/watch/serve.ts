/**
 * The page's socket, which only this machine reaches.
 *
 * @module
 */
import { newToken } from "../../http/guard.ts";
import { serveSocket } from "../../http/socket.ts";
import { watchApp } from "./app.ts";
import type { Runs } from "./runs.ts";

const HOST = "127.0.0.1";
/** Connections at a time: a browser has six for each page, and nobody may use up the files of a run in training. */
const MOST_CONNECTIONS = 64;
/** Milliseconds that a connection may take to ask. */
const PATIENCE = 10_000;

/** A page that is served. */
export interface WatchPage {
  /** Its address, with the token behind `#`, where browsers keep it to themselves. */
  readonly url: string;
  /** Ends when the page is served no more. */
  readonly finished: Promise<void>;
  /** Serves it no more. */
  close(): Promise<void>;
}

/**
 * Serves a page.
 *
 * @param port 0 for any that is free.
 * @throws {UserError} where the port can't be had.
 */
export async function serveWatchPage(runs: Runs, port: number): Promise<WatchPage> {
  const token = newToken(), app = watchApp(runs, token);
  const socket = await serveSocket((request) => app.fetch(request), {
    host: HOST,
    port,
    mostConnections: MOST_CONNECTIONS,
    askPatience: PATIENCE,
    readPatience: PATIENCE,
  });
  // Long files are being read while a browser starts.
  runs.poll(0);
  return {
    url: `http://${HOST}:${socket.port}/#${token}`,
    finished: socket.finished,
    close: () => socket.close(),
  };
}
