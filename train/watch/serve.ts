/**
 * The page's socket, which only this machine reaches.
 *
 * @module
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Hono } from "hono";
import { UserError } from "../../kernels/errors.ts";
import { watchApp } from "./app.ts";
import { newToken } from "./guard.ts";
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

/** What was asked, without its body, which nothing reads; undefined where it has no path. */
function requestOf({ method, url, headers }: IncomingMessage): Request | undefined {
  if (!url?.startsWith("/")) return undefined;
  const own = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) own.set(name, String(value));
  }
  try {
    return new Request(`http://${HOST}${url}`, { method, headers: own });
  } catch {
    return undefined; // a method or an address that is none
  }
}

async function answer(app: Hono, asked: IncomingMessage, reply: ServerResponse): Promise<void> {
  const request = requestOf(asked);
  const response = request ? await app.fetch(request) : new Response(null, { status: 400 });
  const body = new Uint8Array(await response.arrayBuffer());
  reply.writeHead(response.status, {
    ...Object.fromEntries(response.headers),
    "content-length": body.length,
  });
  reply.end(body);
}

/** Begins to listen. @throws {UserError} where the port can't be had. */
async function listen(server: Server, port: number): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(port, HOST, resolve);
  try {
    await promise;
  } catch (error) {
    const { code } = error as { code?: string };
    if (code !== "EADDRINUSE" && code !== "EACCES") throw error;
    throw new UserError(`port ${port} is taken or not allowed; expected a free one, or 0 for any`);
  }
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : port;
}

/**
 * Serves a page.
 *
 * @param port 0 for any that is free.
 * @throws {UserError} where the port can't be had.
 */
export async function serveWatchPage(runs: Runs, port: number): Promise<WatchPage> {
  const token = newToken(), app = watchApp(runs, token);
  const limits = { requestTimeout: PATIENCE, headersTimeout: PATIENCE };
  const server = createServer(limits, (asked, reply) => {
    // A connection that breaks takes its answer along.
    answer(app, asked, reply).catch(() => reply.destroy());
  });
  server.maxConnections = MOST_CONNECTIONS;
  const finished = new Promise<void>((resolve) => server.on("close", resolve));
  const url = `http://${HOST}:${await listen(server, port)}/#${token}`;
  // Long files are being read while a browser starts.
  runs.poll(0);
  return {
    url,
    finished,
    close: () => {
      server.close();
      server.closeAllConnections();
      return finished;
    },
  };
}
