/**
 * Beam search on a model: a batch of continuations of one prompt, each with a place in the KV cache.
 *
 * The most likely next tokens of every beam are found on the GPU; the host reads those few of each step and
 * decides who lives on. The prompt's keys and values are copied to every beam once; after it a beam that
 * splits copies only what was made since.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { MOST_TOP_TOKENS, NOT_FINITE, topTokens } from "../../kernels/ops/sampling/top_tokens.ts";
import { assignSlots, BeamSearch } from "./beam_search.ts";
import { Decoder, type DecoderSizes } from "./decoder.ts";
import { notFiniteLogits } from "./generate.ts";
import type { Llama } from "../transformer/llama.ts";

/** How to search. */
export interface BeamOptions {
  /** Scores are log-probabilities over length to this power. */
  length_penalty: number;
  /** Tokens of the answer at most. */
  maxTokens: number;
  /** Tokens that end an answer; they are not part of it. */
  stop: readonly number[];
  /** Called after every step. */
  tick?: () => void;
}

/** Finds likely continuations; as many beams as its sizes have sequences. */
export class BeamSearcher {
  readonly decoder: Decoder;
  /** The candidates of each beam `[beams · MOST_TOP_TOKENS]`. */
  readonly #ids: Tensor;
  readonly #logprobs: Tensor;

  /** @param model Made with `decoderPasses` of the same sizes. */
  constructor(memory: Memory, readonly model: Llama, sizes: DecoderSizes) {
    this.decoder = new Decoder(memory, model, sizes);
    const shape = [sizes.sequences * MOST_TOP_TOKENS];
    this.#ids = memory.tensor("workspace", "candidate_ids", "u32", shape);
    this.#logprobs = memory.tensor("workspace", "candidate_logprobs", "f32", shape);
  }

  /**
   * The best continuation found of a prompt (one or more ids).
   *
   * @throws {NotFinite} where logits are NaN or infinite.
   */
  async search(
    gpu: Gpu,
    prompt: readonly number[],
    { length_penalty, maxTokens, stop, tick }: BeamOptions,
  ): Promise<number[]> {
    const { decoder } = this;
    const { sequences: beams, context } = decoder.sizes;
    const most = Math.min(maxTokens, context - prompt.length);
    if (most <= 0) return [];
    const search = new BeamSearch({ beams, maxTokens: most, lengthPenalty: length_penalty, stop });
    const vocab = this.model.config.vocab_size;
    const count = Math.min(search.width, MOST_TOP_TOKENS, vocab);
    const [ids, logprobs] = [this.#ids, this.#logprobs];
    const decide = (logits: Tensor, _first: number, rows: number) =>
      topTokens(gpu, { logits, vocab, rows, count, ids, logprobs });

    decoder.begin(gpu, [prompt], decide);
    let live = [{ place: 0, ids: [...prompt] }];
    const prompted = new Set([0]);
    while (true) {
      const candidates = search.live * count;
      const found = new Uint32Array(await gpu.read(ids.view([candidates])), 0, candidates);
      if (found.includes(NOT_FINITE)) {
        const token = live[0].ids.length - prompt.length + 1;
        throw notFiniteLogits(`token ${token} of the answer`, this.model);
      }
      const next = search.advance({
        ids: found,
        logprobs: await gpu.readF32(logprobs.view([candidates])),
      });
      tick?.();
      if (search.live === 0) break;
      const cached = live[0].ids.length;
      const places = live.map(({ place }) => place);
      const { slots, copies } = assignSlots(next.map(({ parent }) => parent), places, beams);
      live = next.map(({ parent, token }, i) => ({
        place: slots[i],
        ids: [...live[parent].ids, token],
      }));
      decoder.arrange(
        gpu,
        live,
        copies.map(({ from, to }) => {
          const first = prompted.has(to) ? prompt.length : 0;
          prompted.add(to);
          return { from, to, first, tokens: cached - first };
        }),
      );
      decoder.step(gpu, decide);
    }
    const best = search.hypotheses.at(0);
    return best?.stopped ? best.ids.slice(0, -1) : best?.ids ?? [];
  }
}
