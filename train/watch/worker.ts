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
async function serve(port: number): Promise<PageAnswer> {
  try {
    const { url } = await serveWatchPage(runs, port);
    return { url };
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) };
  }
}

self.addEventListener("message", async (event) => {
  const request: PageRequest = (event as MessageEvent).data;
  if ("folder" in request) runs.watch([request.folder]);
  else (self as unknown as Worker).postMessage(await serve(request.port));
});
