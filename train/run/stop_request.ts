/**
 * Requests to stop: Ctrl-C, what a cluster sends before it takes a node away, a closed terminal, and a file `stop` in
 * the run's folder.
 *
 * Deno lets a signal in only when its event loop waits, which a program that feeds a GPU does for too short a time:
 * a listener was called up to 54 steps late. So a thread of its own listens (stop_worker.ts), answers at once, and
 * leaves a note in shared memory, where the run looks before it begins anything.
 *
 * @module
 */
import { SIGNAL_EXIT, type StopSignal } from "../../cli/exit_codes.ts";
import { PERSONAL, STOP_SIGNALS, stopSignals } from "../../cli/signals.ts";
import { removeQuietly } from "../../model/files/durable.ts";
import { exists } from "../../model/files/whole_file.ts";
import { noteLine } from "../../kernels/terminal.ts";

/**
 * Indexes of the shared memory. Signals are written by their place in {@linkcode STOP_SIGNALS}, counted from 1; from
 * HEARD on lies when each was heard last, in milliseconds.
 */
const LISTENING = 0, FIRST = 1, AT_ONCE = 2, HEARD = 3;

/** Milliseconds in which the same signal twice is one: `srun` sends SIGTERM twice. */
const SAME = 1000;
/** Milliseconds between looks for the file. */
const LOOK_INTERVAL = 1000;
/** Rounds of the event loop in which every signal comes in that was there before; seen: two. */
const ROUNDS = 10;

/** What the listening thread is sent first. */
export interface StopNotes {
  notes: Int32Array<SharedArrayBuffer>;
  signals: readonly StopSignal[];
}

/** What the listening thread is sent: the memory to leave notes in, or what it is to answer from now on. */
export type StopMessage = StopNotes | string;

/**
 * Takes down one signal. Only a person who asks twice wants more than the first time: what a cluster sends, it may send
 * several times.
 *
 * @returns Whether it is the first.
 */
function takeDown(notes: Int32Array, signal: StopSignal): boolean {
  const place = STOP_SIGNALS.indexOf(signal), number = place + 1, now = Date.now() % 2 ** 31;
  const again = now - Atomics.exchange(notes, HEARD + place, now) < SAME;
  if (Atomics.compareExchange(notes, FIRST, 0, number) === 0) return true;
  if (PERSONAL.includes(signal) && !again) Atomics.store(notes, AT_ONCE, number);
  return false;
}

/** Says that a signal was heard. */
function say(answer: string): void {
  noteLine(`\n${answer} (Ctrl-C again: stop at once).`);
}

/**
 * The listening thread's part, to be called with each {@linkcode StopMessage}. Once the program is to stop at once,
 * signals are left to the system, which ends it whatever it does.
 *
 * @param listening Called once the thread listens.
 */
export function stopListener(listening: () => void): (message: StopMessage) => void {
  let answer = "";
  return (message) => {
    if (typeof message === "string") {
      answer = message;
      return;
    }
    const { notes, signals } = message;
    const listeners = signals.map((signal) => {
      const listener = () => {
        if (takeDown(notes, signal)) say(answer);
        if (Atomics.load(notes, AT_ONCE) === 0) return;
        for (const [signal, listener] of listeners) Deno.removeSignalListener(signal, listener);
      };
      return [signal, listener] as const;
    });
    for (const [signal, listener] of listeners) Deno.addSignalListener(signal, listener);
    Atomics.store(notes, LISTENING, 1);
    listening();
  };
}

/** Thrown where work is left undone because somebody asked to stop. */
export class Stopped extends Error {}

/**
 * Takes note of the first request to stop, so that the work in hand can end well. A second one with Ctrl-C ends
 * the program as soon as it is noticed, a third one at once.
 */
export class StopRequest implements Disposable {
  readonly #notes = new Int32Array(
    new SharedArrayBuffer(4 * (HEARD + STOP_SIGNALS.length)),
  );
  readonly #signals = stopSignals();
  readonly #worker: Worker;
  readonly #listeners = new Map<StopSignal, () => void>();
  /** The file that asks to stop, and when it was looked for last. */
  #file?: string;
  #looked = -Infinity;
  #foundFile = false;
  #answer: string;
  #ended = false;

  /**
   * Takes requests from now on. Until the thread has started this one listens, if late.
   *
   * @param answer What the first request is answered with.
   */
  constructor(answer: string) {
    this.#answer = answer;
    this.#listenHere();
    this.#worker = new Worker(new URL("./stop_worker.ts", import.meta.url), { type: "module" });
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#listenHere();
    });
    this.#worker.addEventListener("message", () => this.#listenHereNoMore());
    this.#worker.postMessage(answer satisfies StopMessage);
    this.#worker.postMessage(
      { notes: this.#notes, signals: this.#signals } satisfies StopMessage,
    );
  }

  /** Whether somebody asked. */
  get requested(): boolean {
    const atOnce = Atomics.load(this.#notes, AT_ONCE);
    if (atOnce > 0) Deno.exit(SIGNAL_EXIT[STOP_SIGNALS[atOnce - 1]]);
    if (!this.#asked) this.#lookForFile();
    return this.#asked;
  }

  /** Throws {@linkcode Stopped} where somebody asked. */
  check(): void {
    if (this.requested) throw new Stopped();
  }

  /** The exit code of a program that is asked to stop: the first signal's, or that of Ctrl-C for the file. */
  get code(): number {
    const first = Atomics.load(this.#notes, FIRST);
    return SIGNAL_EXIT[first > 0 ? STOP_SIGNALS[first - 1] : "SIGINT"];
  }

  /** Changes what the first request will be answered with. */
  set answer(answer: string) {
    this.#answer = answer;
    this.#worker.postMessage(answer satisfies StopMessage);
  }

  /** From now on this file is a request, too; one that is there already was another run's. */
  watchFile(path: string): void {
    this.#file = path;
    removeQuietly(path);
  }

  get #asked(): boolean {
    return this.#foundFile || Atomics.load(this.#notes, FIRST) > 0;
  }

  #lookForFile(): void {
    if (this.#file === undefined || performance.now() - this.#looked < LOOK_INTERVAL) return;
    this.#looked = performance.now();
    if (!exists(this.#file)) return;
    this.#foundFile = true;
    say(this.#answer);
    removeQuietly(this.#file);
  }

  #listenHere(): void {
    if (this.#ended) return;
    for (const signal of this.#signals) {
      if (this.#listeners.has(signal)) continue;
      const listener = () => {
        // The thread took it down, unless it began to listen just after.
        const known = Atomics.load(this.#notes, LISTENING) > 0 && this.#asked;
        if (!known && takeDown(this.#notes, signal)) say(this.#answer);
      };
      Deno.addSignalListener(signal, listener);
      this.#listeners.set(signal, listener);
    }
  }

  /** Leaves signals to the thread, once those are in that came before it listened: they take some rounds of the loop. */
  async #listenHereNoMore(): Promise<void> {
    for (let i = 0; i < ROUNDS; i++) await new Promise((resolve) => setTimeout(resolve, 0));
    this.#removeListeners();
  }

  #removeListeners(): void {
    for (const [signal, listener] of this.#listeners) Deno.removeSignalListener(signal, listener);
    this.#listeners.clear();
  }

  /** Takes no more requests: from now on a signal ends the program. */
  [Symbol.dispose](): void {
    this.#ended = true;
    this.#removeListeners();
    this.#worker.terminate();
  }
}
