/**
 * The built-in example's held-out prompts, answered before and after training.
 *
 * @module
 */
import heldOutJson from "../../examples/builtin/held_out.json" with { type: "text" };
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Engine } from "../../model/engine/engine.ts";
import { parseSamples } from "../../model/text/data/load.ts";
import { type AlpacaSample, encodePrompt, renderPrompt } from "../../model/text/prompt.ts";
import type { Tokenizer } from "../../model/text/tokenizer/tokenizer.ts";
import { PromptSet } from "./prompt_set.ts";

/** Tokens of an answer at most; the longest right one has fewer. */
const ANSWER_TOKENS = 20;

/** Prompts the run never trains on. */
export class SampleAnswers {
  readonly samples: readonly AlpacaSample[];
  readonly prompts: PromptSet;

  /** @param context The model's limit on prompt and answer. */
  constructor(readonly tokenizer: Tokenizer, context: number) {
    const { samples } = parseSamples(heldOutJson, "held_out.json");
    this.samples = samples.filter((sample) => "instruction" in sample);
    const prompts = this.samples.map((s) =>
      Array.from(encodePrompt(tokenizer, renderPrompt(s, "alpaca")))
    );
    const stop = [tokenizer.eos_id];
    this.prompts = new PromptSet(prompts, {
      maxTokens: ANSWER_TOKENS,
      context,
      cache: "f32",
      stop,
    });
  }

  /** The model's answers, the most likely token each time; what `check` throws ends them. */
  async answers(gpu: Gpu, engine: Engine, check: () => void): Promise<string[]> {
    const answers = await this.prompts.answers(gpu, engine, check);
    return answers.map((ids) => this.tokenizer.decode(ids).trim().replaceAll("\n", "⏎"));
  }

  /** Number of answers that are the expected ones. */
  right(answers: readonly string[]): number {
    return this.samples.filter(({ output }, i) => answers[i] === output.trim()).length;
  }

  /** Prompts with both answers, for people. @param done Steps before the first answers, of a run that was gone on with. */
  describe(before: readonly string[], after: readonly string[], done: number): string {
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
    const first = done === 0 ? "before" : `before step ${done + 1}`;
    return `Held-out prompts, ${first} and after:\n\n${parts.join("\n\n")}\n\n` +
      `Right answers: ${this.right(before)} of ${total} ${first}, ${
        this.right(after)
      } of ${total} after.`;
  }
}
