/**
 * The page of a run in training. A thread of its own serves it, from the files that the run writes: the event loop of a
 * program that feeds a GPU lets connections in once in some dozens of steps, and no step is to wait for a reader.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { PageAnswer, PageRequest } from "./message.ts";

/** A page that is served until it is disposed of. */
export class TrainingPage implements Disposable {
  private constructor(readonly url: string, readonly worker: Worker) {}

  /**
   * Serves a page without a run.
   *
   * @param port 0 for any that is free.
   * @throws {UserError} where it can't be served.
   */
  static async open(port: number): Promise<TrainingPage> {
    const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
    const answered = new Promise<PageAnswer>((resolve) => {
      worker.addEventListener("message", (event) => resolve(event.data));
      worker.addEventListener("error", (event) => {
        event.preventDefault(); // A run does not end for its page.
        resolve({ problem: event.message });
      });
    });
    worker.postMessage({ port } satisfies PageRequest);
    const answer = await answered;
    if ("url" in answer) return new TrainingPage(answer.url, worker);
    worker.terminate();
    throw new UserError(`--watch: ${answer.problem}`);
  }

  /** Shows the run in a folder. */
  show(folder: string): void {
    this.worker.postMessage({ folder } satisfies PageRequest);
  }

  [Symbol.dispose](): void {
    this.worker.terminate();
  }
}
