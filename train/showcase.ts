/**
 * The built-in example's held-out prompts, answered before and after training.
 *
 * @module
 */
import heldOutJson from "../examples/builtin/held_out.json" with { type: "text" };
import type { Gpu } from "../kernels/gpu.ts";
import type { Memory } from "../kernels/memory.ts";
import { parseAlpaca } from "../model/alpaca.ts";
import { KvCache } from "../model/cache.ts";
import { greedy } from "../model/generate.ts";
import type { Llama } from "../model/llama.ts";
import { type AlpacaSample, encodePrompt, renderPrompt } from "../model/prompt.ts";
import type { Tokenizer } from "../model/tokenizer.ts";

/** Tokens of an answer at most; the longest right one has fewer. */
const ANSWER_TOKENS = 20;

/** Prompts the run never trains on. */
export class Showcase {
  readonly samples: readonly AlpacaSample[];
  readonly #prompts: Uint32Array[];

  constructor(readonly tokenizer: Tokenizer) {
    this.samples = parseAlpaca(heldOutJson, "held_out.json");
    this.#prompts = this.samples.map((s) => encodePrompt(tokenizer, renderPrompt(s, "alpaca")));
  }

  /** Tokens of the longest prompt, and of it with its answer. */
  get longest(): { prompt: number; total: number } {
    const prompt = Math.max(...this.#prompts.map((ids) => ids.length));
    return { prompt, total: prompt + ANSWER_TOKENS };
  }

  /** The cache that answering takes. */
  cache(memory: Memory, model: Llama): KvCache {
    return new KvCache(memory, model.config, this.longest.total, model.dtype);
  }

  /** The model's answers. */
  async answers(gpu: Gpu, model: Llama, cache: KvCache): Promise<string[]> {
    const answers: string[] = [];
    for (const prompt of this.#prompts) {
      const ids: number[] = [];
      const options = { maxTokens: ANSWER_TOKENS, stop: [this.tokenizer.eos_id], cache };
      for await (const id of greedy(gpu, model, prompt, options)) ids.push(id);
      answers.push(this.tokenizer.decode(ids).trim().replaceAll("\n", "⏎"));
    }
    return answers;
  }

  /** Number of answers that are the expected ones. */
  right(answers: readonly string[]): number {
    return this.samples.filter(({ output }, i) => answers[i] === output.trim()).length;
  }

  /** Prompts with both answers, for people. */
  describe(before: readonly string[], after: readonly string[]): string {
    const parts = this.samples.map(({ instruction, input, output }, i) => {
      const mark = (answer: string) => answer === output.trim() ? "✓" : "✗";
      return [
        ...(input ? [`  ${input}`] : []),
        `  ${instruction}`,
        `    before ${mark(before[i])} ${before[i]}`,
        `    after  ${mark(after[i])} ${after[i]}`,
      ].join("\n");
    });
    const total = this.samples.length;
    return `Held-out prompts, before and after:\n\n${parts.join("\n\n")}\n\n` +
      `Right answers: ${this.right(before)} of ${total} before, ${
        this.right(after)
      } of ${total} after.`;
  }
}
