/**
 * Continuations of prompts: the most likely token each time, or one drawn at random.
 *
 * Tokens are decided on the GPU and fed to the next step there, so that the host reads several at once, a
 * chunk, and records the next chunk meanwhile. That a sequence has ended shows when it is read: the rest of its
 * chunk, and the one under way, are made in vain.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import { markSeen, NOT_FINITE, sample, type Sampling } from "../../kernels/ops/sampling/sample.ts";
import { roundUp, type Tensor } from "../../kernels/gpu/tensor.ts";
import { Decoder, type DecoderSizes } from "./decoder.ts";
import type { Llama } from "../transformer/llama.ts";
import { DAMAGED, NotFinite } from "../transformer/not_finite.ts";

export type { Sampling } from "../../kernels/ops/sampling/sample.ts";

/** The most likely token each time. */
export const GREEDY: Sampling = {
  temperature: 0,
  top_k: 0,
  top_p: 1,
  min_p: 0,
  repetition_penalty: 1,
  seed: 0,
};

/** Steps of a chunk at most. */
const MOST_STEPS = 32;
/** The time that a chunk is to take: text is to flow. */
const CHUNK_MILLISECONDS = 50;

/** How to continue. */
export interface GenerateOptions {
  sampling?: Sampling;
  /** Tokens of each answer at most. */
  maxTokens: number;
  /** Tokens that end a sequence; they are not part of the answer. */
  stop: readonly number[];
  /** Called with every token as it is read; false ends its sequence after it. */
  take?: (sequence: number, id: number) => boolean;
  /** Ends all sequences where they are, after the chunk under way. */
  signal?: AbortSignal;
  /** Use again what the cache holds of the prompts from the call before; the weights must be the same. */
  reuse?: boolean;
  /** Number of the first sequence: random numbers belong to a sequence's number. Default 0. */
  firstStream?: number;
}

/** Continues prompts, several at once. */
export class Generator {
  readonly decoder: Decoder;
  /** Tokens of the steps since the last reading `[steps, sequences]`. */
  readonly #made: Tensor;
  readonly #streams: Tensor;
  /** Which tokens each sequence has had `[sequences, padded vocabulary]`, and room to mark the prompts'. */
  readonly #seen?: { flags: Tensor; ids: Tensor; sequences: Tensor };

  /**
   * @param model Made with `decoderPasses` of the same sizes.
   * @param penalized Whether a repetition penalty will be asked for.
   */
  constructor(
    memory: Memory,
    readonly model: Llama,
    sizes: DecoderSizes,
    { penalized = false }: { penalized?: boolean } = {},
  ) {
    this.decoder = new Decoder(memory, model, sizes);
    const { sequences, promptTokens } = sizes;
    const make = (name: string, shape: number[]) => memory.tensor("workspace", name, "u32", shape);
    this.#made = make("made", [MOST_STEPS, sequences]);
    this.#streams = make("streams", [sequences]);
    if (penalized) {
      this.#seen = {
        flags: make("seen", [sequences, roundUp(model.config.vocab_size, 4)]),
        ids: make("seen_ids", [promptTokens]),
        sequences: make("seen_sequences", [promptTokens]),
      };
    }
  }

  /**
   * Continues each prompt (one or more ids) until it ends; the answers' tokens.
   *
   * @throws {Error} where the prompts or answers exceed the sizes planned.
   * @throws {NotFinite} where logits of an answer are NaN or infinite.
   */
  async generate(
    gpu: Gpu,
    prompts: readonly (readonly number[])[],
    { sampling = GREEDY, maxTokens, stop, take, signal, reuse, firstStream = 0 }: GenerateOptions,
  ): Promise<number[][]> {
    const { decoder } = this;
    const { sequences, context } = decoder.sizes;
    const answers = prompts.map((): number[] => []);
    if (maxTokens === 0 || prompts.length === 0) return answers;
    const most = prompts.map(({ length }) => Math.min(maxTokens, context - length));
    const ended = most.map((tokens) => tokens <= 0);
    gpu.write(this.#streams, Uint32Array.from(prompts, (_, i) => firstStream + i));
    const seen = sampling.repetition_penalty === 1 ? undefined : this.#mark(gpu, prompts);
    const decide = (step: number) => (logits: Tensor, first: number, rows: number) =>
      sample(gpu, {
        logits,
        vocab: this.model.config.vocab_size,
        rows,
        first,
        ids: decoder.ids,
        made: this.#made,
        step,
        stride: sequences,
        positions: decoder.positions,
        streams: this.#streams,
        seen,
        options: sampling,
      });

    /** Records the steps of the next chunk, as many as are still needed; their number. */
    const recordNext = (wanted: number): number => {
      const needed = Math.max(...most.map((tokens, i) => ended[i] ? 0 : tokens));
      const steps = Math.max(0, Math.min(wanted, needed - recorded));
      for (let step = 0; step < steps; step++) decoder.step(gpu, decide(step));
      recorded += steps;
      return steps;
    };
    decoder.begin(gpu, prompts, decide(0), { reuse });
    let recorded = 1, steps = 1, wanted = 1, began = performance.now();
    while (true) {
      let ahead = 0;
      const read = await gpu.read(this.#made.rows(0, steps), () => ahead = recordNext(wanted));
      const made = new Uint32Array(read);
      const next = prompts.map((_, i) =>
        Array.from({ length: steps }, (_, step) => made[step * sequences + i])
      );
      decoder.append(next);
      next.forEach((ids, i) => {
        for (const id of ids) {
          if (ended[i]) return;
          if (id === NOT_FINITE) {
            const which = `prompt ${firstStream + i + 1}, token ${answers[i].length + 1}`;
            throw notFiniteLogits(`${which} of the answer`, this.model);
          }
          if (stop.includes(id)) ended[i] = true;
          else {
            answers[i].push(id);
            ended[i] = take?.(i, id) === false || answers[i].length >= most[i];
          }
        }
      });
      if (ended.every(Boolean) || signal?.aborted) return answers;
      const now = performance.now();
      wanted = nextSteps(steps, now - began);
      began = now;
      steps = ahead || recordNext(wanted);
    }
  }

  /** Marks the prompts' tokens as seen, and no others. */
  #mark(gpu: Gpu, prompts: readonly (readonly number[])[]): Tensor {
    const { flags: seen, ids, sequences } = this.#seen!;
    const count = prompts.reduce((sum, { length }) => sum + length, 0);
    gpu.clear(seen);
    gpu.write(ids, Uint32Array.from(prompts.flat()));
    gpu.write(sequences, Uint32Array.from(prompts.flatMap((ids, i) => ids.map(() => i))));
    markSeen(gpu, { ids, sequences, seen, count });
    return seen;
  }
}

/** What ends an answer whose next token can't be told. */
export function notFiniteLogits(where: string, { options }: Llama): NotFinite {
  return new NotFinite(`${where}: the model's logits are NaN or infinite`, options, DAMAGED);
}

/**
 * A chunk has at most so many times the steps of the one before, in whose time the host records it: 4 times take it
 * longer than the GPU needs on a slow host (5 % of the speed on an H100).
 */
const GROWTH = 2;

/** Steps of the next chunk, after one that took so long. */
function nextSteps(steps: number, milliseconds: number): number {
  const fitting = Math.round(CHUNK_MILLISECONDS * steps / milliseconds);
  return Math.max(1, Math.min(fitting, GROWTH * steps, MOST_STEPS));
}
