/**
 * The thread that serves a run's page; see in_training.ts.
 *
 * @module
 */
import type { PageAnswer, PageRequest } from "./message.ts";
import { Runs } from "./runs.ts";
import { serveWatchPage } from "./serve.ts";

const runs = new Runs([]);

/** Begins to serve. */
function serve(port: number): PageAnswer {
  try {
    return { url: serveWatchPage(runs, port).url };
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) };
  }
}

self.addEventListener("message", (event) => {
  const request: PageRequest = (event as MessageEvent).data;
  if ("folder" in request) runs.watch([request.folder]);
  else (self as unknown as Worker).postMessage(serve(request.port));
});
