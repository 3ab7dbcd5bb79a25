/**
 * Who is next: sequences wait until the engine has a slot for them, and clients take turns.
 *
 * @module
 */
import type { SequenceOptions } from "../../model/engine/engine.ts";
import { ApiError } from "./api_error.ts";
import type { Grammar } from "./grammar/json_schema.ts";
import type { Vocabulary } from "./grammar/masks.ts";
import { Generation } from "./generation.ts";
import type { Piece, ToEngine } from "./messages.ts";

/** A sequence that is asked for. */
export interface SequenceAsk {
  readonly prompt: readonly number[];
  readonly options: SequenceOptions;
  /** The form of its answer. */
  readonly grammar?: Grammar;
  /** The tokens that its answer has to be. */
  readonly given?: readonly number[];
}

interface Waiting extends SequenceAsk {
  readonly id: number;
  readonly generation: Generation;
}

/** How the load was so far. */
export interface Load {
  readonly running: number;
  readonly waiting: number;
}

/** Seconds to wait that are proposed at least, and at most. */
const SOONEST = 1, LATEST = 60;
/** The part that the last sequence has in the mean of their durations. */
const NEWEST = 0.1;

/** Hands sequences to the engine. */
export class Dispatcher {
  /** Sequences that wait, by client; clients in the order of their turns. */
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #running = new Map<number, { generation: Generation; began: number }>();
  #next = 0;
  #ready = false;
  #finishing = false;
  #knowsVocabulary = false;
  /** Seconds that a sequence takes, as a moving mean. */
  #mean = 0;

  /**
   * @param post Tells the engine's thread.
   * @param finished Called once all is done after {@linkcode finish}.
   * @param vocabulary The tokens that there are, for answers of a form.
   */
  constructor(
    readonly post: (message: ToEngine) => void,
    readonly limits: {
      readonly sequences: number;
      readonly queue: number;
      /** Seconds that an answer may take. */
      readonly timeout: number;
    },
    readonly finished: () => void,
    readonly vocabulary: () => Vocabulary,
  ) {}

  get load(): Load {
    const waiting = [...this.#waiting.values()].reduce((sum, { length }) => sum + length, 0);
    return { running: this.#running.size, waiting };
  }

  /** Whether the model is loaded, and nothing ends it. */
  get isOpen(): boolean {
    return this.#ready && !this.#finishing;
  }

  /** To be called when the model is loaded. */
  open(): void {
    this.#ready = true;
  }

  /** Takes nothing more; what waits is refused, and what runs goes on. */
  finish(): void {
    this.#finishing = true;
    const all = [...this.#waiting.values()].flat();
    this.#waiting.clear();
    for (const { id, generation } of all) {
      generation.push({ id, ids: [], problem: "the server is ending" });
    }
    this.#proceed();
  }

  /**
   * Asks for the sequences of a request.
   *
   * @param client Who asks; clients take turns.
   * @param signal Ends them.
   * @throws {ApiError} where there is no room for them.
   */
  ask(client: string, asks: readonly SequenceAsk[], signal: AbortSignal): Generation[] {
    if (!this.isOpen) {
      const state = this.#ready ? "the server is ending" : "the model is still being loaded";
      throw new ApiError(503, `${state}; ask again later`, { retryAfter: 5, code: "unavailable" });
    }
    const { sequences, queue } = this.limits, { running, waiting } = this.load;
    if (asks.length > sequences + queue) {
      throw new ApiError(
        400,
        `the request asks for ${asks.length} answers at once; expected at most ${
          sequences + queue
        }`,
        { param: "n", code: "invalid_value" },
      );
    }
    const free = Math.max(0, sequences - running - waiting);
    if (waiting + asks.length > queue + free) {
      throw new ApiError(429, `${waiting} answers wait already; ask again later`, {
        retryAfter: this.#wait(waiting),
        code: "queue_full",
      });
    }
    const own = this.#waiting.get(client) ?? [];
    this.#waiting.set(client, own);
    const cancel = () => asked.forEach(({ generation }) => generation.cancel());
    // Nothing of a request is kept once its answers have ended.
    const timer = setTimeout(cancel, 1000 * this.limits.timeout);
    let left = asks.length;
    const ended = () => {
      if (--left > 0) return;
      clearTimeout(timer);
      signal.removeEventListener("abort", cancel);
    };
    const asked = asks.map((ask): Waiting => {
      const id = this.#next++;
      const generation = new Generation((byItself) => {
        this.#end(client, id, byItself);
        ended();
      });
      return { ...ask, id, generation };
    });
    own.push(...asked);
    signal.addEventListener("abort", cancel);
    if (signal.aborted) cancel();
    this.#proceed();
    return asked.map(({ generation }) => generation);
  }

  /** Takes what the engine made. */
  receive(pieces: readonly Piece[]): void {
    for (const piece of pieces) this.#running.get(piece.id)?.generation.push(piece);
  }

  /** Seconds until so many waiting sequences may have been answered. */
  #wait(waiting: number): number {
    const seconds = Math.ceil(this.#mean * (1 + waiting / this.limits.sequences));
    return Math.min(LATEST, Math.max(SOONEST, seconds));
  }

  /** Gives free slots to clients by turns. */
  #proceed(): void {
    while (this.#running.size < this.limits.sequences) {
      const [turn] = this.#waiting;
      if (turn === undefined) break;
      const [client, own] = turn, next = own.shift();
      this.#waiting.delete(client);
      if (own.length > 0) this.#waiting.set(client, own);
      if (next === undefined) continue;
      const { id, prompt, options, grammar, given, generation } = next;
      this.#running.set(id, { generation, began: performance.now() });
      if (grammar !== undefined && !this.#knowsVocabulary) {
        this.#knowsVocabulary = true;
        this.post({ kind: "vocabulary", vocabulary: this.vocabulary() });
      }
      this.post({ kind: "admit", id, prompt, options, grammar, given });
    }
    if (this.#finishing && this.#running.size === 0) this.finished();
  }

  /** A sequence has ended, or its client wants no more of it. */
  #end(client: string, id: number, byItself: boolean): void {
    const running = this.#running.get(id);
    if (running === undefined) {
      const own = this.#waiting.get(client)?.filter((waiting) => waiting.id !== id) ?? [];
      if (own.length > 0) this.#waiting.set(client, own);
      else this.#waiting.delete(client);
      return;
    }
    this.#running.delete(id);
    const seconds = (performance.now() - running.began) / 1000;
    this.#mean = this.#mean === 0 ? seconds : (1 - NEWEST) * this.#mean + NEWEST * seconds;
    if (!byItself) this.post({ kind: "evict", id });
    this.#proceed();
  }
}
