/**
 * The built-in example's held-out prompts, answered before and after training.
 *
 * @module
 */
import heldOutJson from "../examples/builtin/held_out.json" with { type: "text" };
import type { Gpu } from "../kernels/gpu/gpu.ts";
import type { Memory } from "../kernels/gpu/memory.ts";
import { Engine } from "../model/engine/engine.ts";
import type { EngineSizes } from "../model/engine/slots.ts";
import type { Llama } from "../model/transformer/llama.ts";
import { parseSamples } from "../model/text/data/load.ts";
import { type AlpacaSample, encodePrompt, renderPrompt } from "../model/text/prompt.ts";
import type { Tokenizer } from "../model/text/tokenizer/tokenizer.ts";

/** Tokens of an answer at most; the longest right one has fewer. */
const ANSWER_TOKENS = 20;

/** Prompts the run never trains on. */
export class SampleAnswers {
  readonly samples: readonly AlpacaSample[];
  readonly #prompts: number[][];

  constructor(readonly tokenizer: Tokenizer) {
    const { samples } = parseSamples(heldOutJson, "held_out.json");
    this.samples = samples.filter((sample) => "instruction" in sample);
    this.#prompts = this.samples.map((s) =>
      Array.from(encodePrompt(tokenizer, renderPrompt(s, "alpaca")))
    );
  }

  /** All prompts at once. */
  get sizes(): EngineSizes {
    const lengths = this.#prompts.map(({ length }) => length);
    return {
      sequences: lengths.length,
      context: Math.max(...lengths) + ANSWER_TOKENS,
      promptTokens: lengths.reduce((sum, length) => sum + length, 0),
      cache: "f32",
    };
  }

  /** What answering takes beside the model. */
  engine(memory: Memory, model: Llama): Engine {
    return new Engine(memory, model, this.sizes);
  }

  /** The model's answers, the most likely token each time; what `check` throws ends them. */
  async answers(gpu: Gpu, engine: Engine, check: () => void): Promise<string[]> {
    const options = { maxTokens: ANSWER_TOKENS, stop: [this.tokenizer.eos_id] };
    const answers = await engine.answers(gpu, this.#prompts, options, check);
    return answers.map((ids) => this.tokenizer.decode(ids).trim().replaceAll("\n", "⏎"));
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
