/**
 * Beam search on a model: a batch of continuations of one prompt, each with a place in the KV cache.
 *
 * The most likely next tokens of every beam are found on the GPU; the host reads them at each step and decides which
 * beams live on. The prompt's keys and values are copied to every beam once. After that a beam that splits copies
 * only the keys and values of later tokens.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { MOST_TOP_TOKENS, NOT_FINITE, topTokens } from "../../kernels/ops/sampling/top_tokens.ts";
import { assignSlots, BeamSearch } from "./beam_search.ts";
import { notFiniteLogits } from "./engine.ts";
import { type EngineSizes, type Sampler, Slots } from "./slots.ts";
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
  readonly slots: Slots;
  /** The candidates of each beam `[beams · MOST_TOP_TOKENS]`. */
  readonly #ids: Tensor;
  readonly #logprobs: Tensor;

  /** @param model Made to generate, with sizes that are no smaller. */
  constructor(memory: Memory, readonly model: Llama, readonly sizes: EngineSizes) {
    this.slots = new Slots(memory, model, sizes);
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
    const { sequences: beams, context } = this.sizes;
    const most = Math.min(maxTokens, context - prompt.length);
    if (most <= 0) return [];
    const search = new BeamSearch({ beams, maxTokens: most, lengthPenalty: length_penalty, stop });
    const count = Math.min(search.width, MOST_TOP_TOKENS, this.model.config.vocab_size);
    const [ids, logprobs] = [this.#ids, this.#logprobs], sampler = this.#sampler(gpu, count);
    this.slots.prefill(gpu, [{ slot: 0, ids: prompt, cached: 0 }], sampler);
    let live = [{ slot: 0, ids: [...prompt] }];
    let prompted = new Set([0]);
    while (true) {
      const rows = 1 + Math.max(...live.map(({ slot }) => slot));
      const found = new Uint32Array(await gpu.read(ids.view([rows * count])), 0, rows * count);
      const likely = await gpu.readF32(logprobs.view([rows * count]));
      const ofLive = <T>(all: Iterable<T>) => {
        const list = [...all];
        return live.flatMap(({ slot }) => list.slice(slot * count, (slot + 1) * count));
      };
      const candidates = { ids: ofLive(found), logprobs: ofLive(likely) };
      if (candidates.ids.includes(NOT_FINITE)) {
        const token = live[0].ids.length - prompt.length + 1;
        throw notFiniteLogits(`token ${token} of the answer`, this.model);
      }
      const next = search.advance(candidates);
      tick?.();
      if (search.live === 0) break;
      const length = live[0].ids.length, outgrows = this.slots.outgrows(live[0].slot);
      const parents = next.map(({ parent }) => parent);
      const { slots, copies } = assignSlots(parents, live.map(({ slot }) => slot), beams);
      live = next.map(({ parent, token }, i) => ({
        slot: slots[i],
        ids: [...live[parent].ids, token],
      }));
      if (outgrows) {
        const fed = live.map(({ slot, ids }) => ({ slot, ids: ids.slice(0, -1) }));
        this.slots.rotateAsLong(gpu, fed);
        // What lies in other slots, the prompt included, are keys of a shorter text.
        prompted = new Set(slots);
      }
      for (const { from, to } of outgrows ? [] : copies) {
        const first = prompted.has(to) ? prompt.length : 0;
        prompted.add(to);
        this.slots.copy(gpu, { from, to, first, tokens: length - first });
      }
      this.slots.set(gpu, live);
      this.slots.step(gpu, 1 + Math.max(...slots), sampler);
    }
    const best = search.hypotheses.at(0);
    return best?.stopped ? best.ids.slice(0, -1) : best?.ids ?? [];
  }

  /**
   * Launches what a search takes, for {@linkcode Gpu.precompile}: the prompt, a copy from beam to beam, and a step of all
   * beams. The searcher is of no use after it.
   */
  rehearse(gpu: Gpu, prompt: readonly number[]): void {
    const { sequences: beams, context } = this.sizes;
    const sampler = this.#sampler(gpu, Math.min(MOST_TOP_TOKENS, this.model.config.vocab_size));
    this.slots.prefill(gpu, [{ slot: 0, ids: prompt, cached: 0 }], sampler);
    if (prompt.length === context) return;
    this.slots.copy(gpu, { from: 0, to: beams - 1, first: 0, tokens: prompt.length });
    const ids = [...prompt, 0];
    this.slots.set(gpu, Array.from({ length: beams }, (_, slot) => ({ slot, ids })));
    this.slots.step(gpu, beams, sampler);
  }

  /** Finds the candidates of each row, `count` at most. */
  #sampler(gpu: Gpu, count: number): Sampler {
    const vocab = this.model.config.vocab_size, [ids, logprobs] = [this.#ids, this.#logprobs];
    return (logits, _first, rows) => topTokens(gpu, { logits, vocab, rows, count, ids, logprobs });
  }
}
