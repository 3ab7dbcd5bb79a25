/**
 * Requests to stop: Ctrl-C, and what a cluster sends before it takes a node away.
 *
 * Deno lets a signal in only when its event loop waits, which a program that feeds a GPU does for too short a time:
 * a listener was called up to 54 steps late. So a thread of its own listens (stop_worker.ts), answers at once, and
 * leaves a note in shared memory, where the run looks before it begins anything.
 *
 * @module
 */
import { noteLine } from "../kernels/terminal.ts";

const SIGNALS = ["SIGINT", "SIGTERM"] as const;
type Signal = typeof SIGNALS[number];

/** Indexes of the shared memory. */
const LISTENING = 0, REQUESTS = 1, AT_ONCE = 2;

/** What the listening thread is sent: the memory to leave notes in, or what it is to answer from now on. */
export type StopMessage = Int32Array<ArrayBuffer | SharedArrayBuffer> | string;

/** Takes down one signal, and says so of the first. */
function takeDown(notes: Int32Array, signal: Signal, answer: string): void {
  const before = Atomics.add(notes, REQUESTS, 1);
  if (before === 0) noteLine(`\n${answer} (Ctrl-C again: stop at once).`);
  // Only a person means it when he asks twice: a cluster's step is sent SIGTERM twice.
  else if (signal === "SIGINT") Atomics.store(notes, AT_ONCE, 1);
}

/** The listening thread's part, to be called with each {@linkcode StopMessage}. */
export function stopListener(): (message: StopMessage) => void {
  let answer = "";
  return (message) => {
    if (typeof message === "string") {
      answer = message;
      return;
    }
    for (const signal of SIGNALS) {
      Deno.addSignalListener(signal, () => takeDown(message, signal, answer));
    }
    Atomics.store(message, LISTENING, 1);
  };
}

/** Thrown where work is left undone because somebody asked to stop. */
export class Stopped extends Error {}

/**
 * Takes note of the first request to stop, so that the work in hand can end well. A second one with Ctrl-C ends
 * the program, with exit code 130, as soon as it is noticed.
 */
export class StopRequest implements Disposable {
  readonly #notes = new Int32Array(new SharedArrayBuffer(3 * 4));
  readonly #worker: Worker;
  readonly #listeners = new Map<Signal, () => void>();
  #answer: string;
  #failed = false;
  /** Whether this thread heard a request. The other one may have begun to listen just after it. */
  #heardHere = false;

  /**
   * Starts the thread, which takes some time; until {@linkcode listen}, a signal ends the program.
   *
   * @param answer What the first request is answered with.
   */
  constructor(answer = "Stopping after this step; the state is saved") {
    this.#answer = answer;
    this.#worker = new Worker(new URL("./stop_worker.ts", import.meta.url), { type: "module" });
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault(); // This thread listens, if late.
      this.#failed = true;
    });
    this.#worker.postMessage(answer satisfies StopMessage);
  }

  /** Takes requests from now on. */
  async listen(): Promise<void> {
    for (const signal of SIGNALS) {
      const listener = () => {
        this.#heardHere = true;
        if (!this.#workerListens) takeDown(this.#notes, signal, this.#answer);
        this.#exitIfAsked();
      };
      Deno.addSignalListener(signal, listener);
      this.#listeners.set(signal, listener);
    }
    this.#worker.postMessage(this.#notes satisfies StopMessage);
    while (!this.#workerListens && !this.#failed) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** Whether the worker listens; it ends where it can't write its answer. */
  get #workerListens(): boolean {
    return !this.#failed && Atomics.load(this.#notes, LISTENING) > 0;
  }

  /** Whether somebody asked. */
  get requested(): boolean {
    this.#exitIfAsked();
    return this.#heardHere || Atomics.load(this.#notes, REQUESTS) > 0;
  }

  /** Throws {@linkcode Stopped} where somebody asked. */
  check(): void {
    if (this.requested) throw new Stopped();
  }

  /** Changes what the first request will be answered with. */
  set answer(answer: string) {
    this.#answer = answer;
    this.#worker.postMessage(answer satisfies StopMessage);
  }

  #exitIfAsked(): void {
    if (Atomics.load(this.#notes, AT_ONCE) > 0) Deno.exit(130);
  }

  /** Takes no more requests: from now on a signal ends the program. */
  [Symbol.dispose](): void {
    for (const [signal, listener] of this.#listeners) Deno.removeSignalListener(signal, listener);
    this.#worker.terminate();
  }
}
