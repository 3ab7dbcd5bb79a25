/**
 * The thread that answers requests: the event loop of one that feeds a GPU lets connections in now and then only.
 *
 * @module
 */
import type { ToEngine, ToServer } from "./messages.ts";
import { type ModelServer, serveModel } from "./server.ts";

const thread = self as unknown as Worker;
let server: ModelServer | undefined;

async function serve(message: ToServer & { kind: "serve" }): Promise<void> {
  const { settings, posted } = message;
  const post = (message: ToEngine) => {
    Atomics.add(posted, 0, 1);
    thread.postMessage(message);
  };
  try {
    server = await serveModel(settings, post);
    thread.postMessage({ kind: "listening", port: server.port } satisfies ToEngine);
  } catch (error) {
    thread.postMessage(
      { kind: "failed", message: (error as Error).message } satisfies ToEngine,
    );
  }
}

self.addEventListener("message", (event) => {
  const message: ToServer = (event as MessageEvent).data;
  switch (message.kind) {
    case "serve":
      return void serve(message);
    case "ready":
      return server?.ready(message.gpuBytes);
    case "pieces":
      return server?.receive(message.pieces);
    case "finish":
      return server?.finish();
  }
});
