/**
 * A socket whose requests a function answers, within bounds of time and number.
 *
 * @module
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket as NetSocket } from "node:net";
import { UserError } from "../kernels/errors.ts";

/** Answers requests, as Hono's `fetch` does. */
export type Fetch = (request: Request, from: Peer) => Response | Promise<Response>;

/** Who asks. */
export interface Peer {
  /** The address at the other end; empty where it has gone. */
  readonly address: string;
}

/** Where and within which bounds a socket is served. */
export interface SocketOptions {
  /** An IP address. */
  readonly host: string;
  /** 0 for any that is free. */
  readonly port: number;
  /** Connections at a time; one too many is closed at once. */
  readonly mostConnections: number;
  /** Milliseconds that a connection may take to ask, its body included. */
  readonly askPatience: number;
  /** Milliseconds that a reader may take to make room for more of its answer. */
  readonly readPatience: number;
}

/** A socket that is served. */
export interface Socket {
  readonly port: number;
  /** Ends when it is served no more. */
  readonly finished: Promise<void>;
  /** Takes no further connection, and ends those that wait for no answer. */
  finish(): void;
  /** Ends all connections. */
  close(): Promise<void>;
}

/** The body of what was asked, as it is read. What breaks off is told to its reader. */
function bodyOf(asked: IncomingMessage): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>({
    start(controller) {
      asked.on("data", (piece: Uint8Array) => {
        controller.enqueue(piece);
        if ((controller.desiredSize ?? 0) <= 0) asked.pause();
      });
      asked.once("end", () => controller.close());
      asked.once("error", (error) => controller.error(error));
      asked.pause();
    },
    pull: () => void asked.resume(),
    cancel: () => void asked.removeAllListeners("data"),
  });
}

/** Milliseconds in which the rest of a body that nobody reads may come, so that its sender reads the answer. */
const REST = 1000;

/** Ends the connection of a request whose body was not read: its rest is no next request. */
function dropRest(asked: IncomingMessage): void {
  asked.removeAllListeners("data");
  asked.resume();
  const timer = setTimeout(() => asked.socket.destroy(), REST);
  asked.socket.once("close", () => clearTimeout(timer));
}

/** What was asked; undefined where it has no path, or a method that is none. */
function requestOf(asked: IncomingMessage, host: string, signal: AbortSignal): Request | undefined {
  const { method, url, headers } = asked;
  if (!url?.startsWith("/")) return undefined;
  const own = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) own.set(name, String(value));
  }
  const hasBody = method !== "GET" && method !== "HEAD";
  const body = hasBody ? bodyOf(asked) : undefined;
  try {
    return new Request(`http://${host}${url}`, {
      method,
      headers: own,
      body,
      signal,
      ...(hasBody && { duplex: "half" }),
    });
  } catch {
    return undefined;
  }
}

/** Resolves once there is room for more of an answer; false where its reader takes too long, or has gone. */
function roomFor(reply: ServerResponse, patience: number): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (has: boolean) => () => {
      clearTimeout(timer);
      reply.off("drain", drained).off("close", closed);
      resolve(has);
    };
    const drained = end(true), closed = end(false);
    const timer = setTimeout(end(false), patience);
    reply.once("drain", drained).once("close", closed);
  });
}

/** Sends an answer piece by piece, as fast as its reader takes it. */
async function sendStream(
  body: ReadableStream<Uint8Array>,
  reply: ServerResponse,
  patience: number,
): Promise<void> {
  const reader = body.getReader();
  const gone = () => void reader.cancel().catch(() => {});
  reply.once("close", gone);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || reply.destroyed) break;
      if (!reply.write(value) && !await roomFor(reply, patience)) {
        reply.destroy();
        break;
      }
    }
  } finally {
    reply.off("close", gone);
    await reader.cancel().catch(() => {});
  }
  reply.end();
}

const EVENTS = "text/event-stream";

async function answer(
  fetch: Fetch,
  asked: IncomingMessage,
  reply: ServerResponse,
  { host, readPatience }: SocketOptions,
): Promise<void> {
  const left = new AbortController();
  reply.once("close", () => left.abort());
  const request = requestOf(asked, host, left.signal);
  const response = request
    ? await fetch(request, { address: asked.socket.remoteAddress ?? "" })
    : new Response(null, { status: 400 });
  const headers = Object.fromEntries(response.headers);
  if (response.body !== null && response.headers.get("content-type")?.startsWith(EVENTS)) {
    reply.writeHead(response.status, headers);
    return await sendStream(response.body, reply, readPatience);
  }
  const body = new Uint8Array(await response.arrayBuffer()), isRead = asked.complete;
  reply.writeHead(response.status, {
    ...headers,
    "content-length": body.length,
    ...(isRead ? {} : { connection: "close" }),
  });
  reply.end(body);
  if (!isRead) dropRest(asked);
}

/** Begins to listen. @throws {UserError} where the port can't be had. */
async function listen(server: Server, { host, port }: SocketOptions): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(port, host, resolve);
  try {
    await promise;
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "EADDRNOTAVAIL") {
      throw new UserError(`${host} is no address of this machine; expected one that it has`);
    }
    if (code !== "EADDRINUSE" && code !== "EACCES") throw error;
    throw new UserError(`port ${port} is taken or not allowed; expected a free one, or 0 for any`);
  }
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : port;
}

/**
 * Serves a socket.
 *
 * @throws {UserError} where it can't be had.
 */
export async function serveSocket(fetch: Fetch, options: SocketOptions): Promise<Socket> {
  const { askPatience, mostConnections } = options;
  const limits = { requestTimeout: askPatience, headersTimeout: askPatience };
  // Connections, and what each has asked for that is not answered yet.
  const connections = new Map<NetSocket, IncomingMessage | undefined>();
  let finishing = false;
  const server = createServer(limits, (asked, reply) => {
    const { socket } = asked;
    connections.set(socket, asked);
    reply.once("close", () => {
      if (finishing) socket.destroySoon();
      else if (connections.has(socket)) connections.set(socket, undefined);
    });
    // A body that breaks off is told by its reader.
    asked.on("error", () => {});
    // A connection that breaks takes its answer along.
    answer(fetch, asked, reply, options).catch(() => reply.destroy());
  });
  server.maxConnections = mostConnections;
  server.on("connection", (socket: NetSocket) => {
    connections.set(socket, undefined);
    socket.once("close", () => connections.delete(socket));
  });
  const finished = new Promise<void>((resolve) => server.on("close", resolve));
  return {
    port: await listen(server, options),
    finished,
    finish: () => {
      finishing = true;
      server.close();
      // Deno's `closeIdleConnections` leaves those open that have asked for nothing yet.
      for (const [socket, asked] of connections) {
        // Whoever has not asked to the end is not waited for.
        if (!asked?.complete) socket.destroy();
      }
    },
    close: () => {
      server.close();
      server.closeAllConnections();
      return finished;
    },
  };
}
