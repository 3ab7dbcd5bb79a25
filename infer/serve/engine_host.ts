/**
 * The engine's side of a server: sequences come and go between steps, and what the steps make is told at once.
 *
 * @module
 */
import { letEventsIn } from "../../kernels/gpu/event_loop.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Engine, Sequence, TokenLogprobs, TokenMask } from "../../model/engine/engine.ts";
import { NotFinite } from "../../model/transformer/not_finite.ts";
import { GivenTokens } from "./given_tokens.ts";
import type { GrammarMasks, Vocabulary } from "./grammar/masks.ts";
import type { Piece, ToEngine } from "./messages.ts";

/** Turns of the event loop at most in which messages that were sent are waited for before the next step. */
const MOST_TURNS = 20;

/** A mask, which may have something to give back. */
type Mask = TokenMask & Partial<Disposable>;

/** A sequence that goes on, and its tokens of the last step. */
interface Running {
  readonly sequence: Sequence;
  ids: number[];
  logprobs: TokenLogprobs[];
  readonly mask?: Mask;
}

/** What is told of the token that ended a sequence. */
function endingOf({ sequence: { slotIds, stopLogprobs } }: Running): Pick<Piece, "ending"> {
  const id = slotIds[slotIds.length - 1];
  return stopLogprobs === undefined ? {} : { ending: { id, logprobs: stopLogprobs } };
}

/** Runs an engine for others. */
export class EngineHost {
  readonly #running = new Map<number, Running>();
  readonly #numbers = new Map<Sequence, number>();
  /** Sequences whose masks are being made. */
  readonly #coming = new Set<number>();
  readonly #masks = Promise.withResolvers<GrammarMasks>();
  #wake = Promise.withResolvers<void>();
  #ended = false;
  #received = 0;

  /**
   * @param tell Told what each step made.
   * @param posted Counts the messages that were sent; see {@linkcode received}.
   */
  constructor(
    readonly gpu: Gpu,
    readonly engine: Engine,
    readonly tell: (pieces: Piece[]) => void,
    readonly posted: Int32Array,
  ) {}

  /** To be called for each message that came, once it was obeyed. */
  received(): void {
    this.#received++;
    this.#wake.resolve();
  }

  /** Sets which tokens there are, for answers of a form. */
  async know(vocabulary: Vocabulary): Promise<void> {
    // Most servers do without the library.
    const { GrammarMasks } = await import("./grammar/masks.ts");
    this.#masks.resolve(new GrammarMasks(vocabulary));
  }

  /** Admits a sequence. What is wrong with it is told as its problem. */
  async admit(admission: ToEngine & { kind: "admit" }): Promise<void> {
    const { id, prompt, options } = admission;
    this.#coming.add(id);
    try {
      const mask = await this.#maskOf(admission);
      // Its client may have left meanwhile.
      if (!this.#coming.delete(id)) return mask?.[Symbol.dispose]?.();
      const sequence = this.engine.admit(prompt, { ...options, mask });
      this.#running.set(id, { sequence, ids: [], logprobs: [], mask });
      this.#numbers.set(sequence, id);
    } catch (error) {
      this.#coming.delete(id);
      this.tell([{ id, ids: [], problem: (error as Error).message }]);
    }
    this.#wake.resolve();
  }

  /** Which tokens may come, where not all may. */
  async #maskOf(
    { prompt, options, grammar, given }: ToEngine & { kind: "admit" },
  ): Promise<Mask | undefined> {
    const { model, sizes } = this.engine;
    if (given !== undefined) return new GivenTokens(given, model.config.vocab_size);
    if (grammar === undefined) return undefined;
    const most = Math.min(options.maxTokens, sizes.context - prompt.length);
    return await (await this.#masks.promise).begin(grammar, most);
  }

  /** Ends a sequence, of which nothing more is told. */
  evict(id: number): void {
    this.#coming.delete(id);
    const running = this.#running.get(id);
    if (running === undefined) return;
    this.engine.evict(running.sequence);
    this.#forget(id, running);
  }

  /** Makes {@linkcode run} return after the present step. */
  end(): void {
    this.#ended = true;
    this.#wake.resolve();
  }

  /**
   * Makes tokens for as long as there are sequences, and waits for the next, until {@linkcode end} is called.
   *
   * @throws where the GPU fails.
   */
  async run(): Promise<void> {
    while (!this.#ended) {
      await this.#hear();
      if (this.#ended) return;
      this.#tellEnds();
      if (this.#running.size === 0) {
        await this.#wake.promise;
        this.#wake = Promise.withResolvers();
        continue;
      }
      try {
        for (const { sequence, id, logprobs } of await this.engine.step(this.gpu)) {
          const running = this.#running.get(this.#numbers.get(sequence) ?? -1);
          running?.ids.push(id);
          if (logprobs !== undefined) running?.logprobs.push(logprobs);
        }
      } catch (error) {
        this.#fail((error as Error).message);
        // A prompt may do that to a damaged model; another may not.
        if (!(error instanceof NotFinite)) throw error;
      }
      this.#tellEnds();
    }
  }

  /** Lets in the messages that were sent. */
  async #hear(): Promise<void> {
    for (let turn = 0; turn < MOST_TURNS; turn++) {
      if (Atomics.load(this.posted, 0) === this.#received) return;
      await letEventsIn();
    }
  }

  /** Tells the tokens of the last step, and which sequences have ended. */
  #tellEnds(): void {
    const pieces: Piece[] = [];
    for (const [id, running] of this.#running) {
      const { sequence: { finished, choice }, ids, logprobs } = running;
      if (ids.length === 0 && finished === undefined) continue;
      const told = choice.logprobs === undefined ? {} : { logprobs };
      if (finished === undefined || finished === "evicted") pieces.push({ id, ids, ...told });
      else {
        pieces.push({ id, ids, ...told, finished, ...endingOf(running) });
        this.#forget(id, running);
      }
      running.ids = [];
      running.logprobs = [];
    }
    if (pieces.length > 0) this.tell(pieces);
  }

  #fail(problem: string): void {
    const ids = [...this.#running.keys()];
    for (const id of ids) this.evict(id);
    this.tell(ids.map((id) => ({ id, ids: [], problem })));
  }

  #forget(id: number, { sequence, mask }: Running): void {
    mask?.[Symbol.dispose]?.();
    this.#running.delete(id);
    this.#numbers.delete(sequence);
  }
}
