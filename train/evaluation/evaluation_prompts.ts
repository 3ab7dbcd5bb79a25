/**
 * Prompts of held-out samples and of the configuration, answered at every evaluation.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { shortened } from "../../kernels/terminal.ts";
import type { Engine } from "../../model/engine/engine.ts";
import type { TokenizedSample } from "../../model/text/prompt.ts";
import type { Tokenizer } from "../../model/text/tokenizer/tokenizer.ts";
import { storageOf } from "../../model/transformer/modes.ts";
import type { SampleAnswer } from "./history.ts";
import { PromptSet } from "./prompt_set.ts";

/** What the configuration says of the prompts. */
export interface PromptKeys {
  eval_samples: number;
  eval_max_tokens: number;
  precision: "fp32" | "mixed";
}

/** Characters of a prompt and of an answer that are shown at most. */
const SHOWN_PROMPT = 160, SHOWN_ANSWER = 400;

/** A prompt, and what the data have as its answer. */
interface Asked {
  ids: readonly number[];
  expected?: string;
}

/** What is answered at the evaluations of a run. */
export class EvaluationPrompts {
  readonly prompts: PromptSet;
  readonly #tokenizer: Tokenizer;
  readonly #asked: readonly Asked[];

  private constructor(tokenizer: Tokenizer, asked: readonly Asked[], prompts: PromptSet) {
    this.#tokenizer = tokenizer;
    this.#asked = asked;
    this.prompts = prompts;
  }

  /**
   * Chooses the prompts: those of the first held-out samples that have one, and those of the configuration.
   *
   * @param from `evaluation`: the held-out samples. `context`: the model's limit on prompt and answer.
   *   `stop`: tokens that end an answer. `questions`: the prompts of the configuration as ids.
   * @returns undefined where nothing is asked for.
   * @throws {UserError} where no held-out sample has a prompt, or a prompt leaves no room for an answer.
   */
  static of(
    tokenizer: Tokenizer,
    { eval_samples, eval_max_tokens: maxTokens, precision }: PromptKeys,
    { evaluation, context, stop, questions }: {
      evaluation: Iterable<TokenizedSample>;
      context: number;
      stop: readonly number[];
      questions: readonly Uint32Array[];
    },
  ): EvaluationPrompts | undefined {
    const asked: Asked[] = [], beginning = tokenizer.prefix_ids.length;
    for (const { ids, targets } of evaluation) {
      if (asked.length >= eval_samples) break;
      const [begin, end] = targets.at(-1) ?? [0, 0];
      if (begin <= Math.max(beginning, 1)) continue; // text without a prompt
      const answer = Array.from(ids.subarray(begin, end));
      // A template may write more after what ends a turn.
      const last = answer.findLastIndex((id) => stop.includes(id));
      const expected = tokenizer.decode(last < 0 ? answer : answer.slice(0, last));
      asked.push({ ids: Array.from(ids.subarray(0, begin)), expected });
    }
    if (eval_samples > 0 && asked.length === 0) {
      throw new UserError(
        `eval_samples is ${eval_samples}, but no held-out sample has a prompt: they are plain text; ` +
          "expected eval_samples 0, or eval_prompts",
      );
    }
    for (const ids of questions) asked.push({ ids: Array.from(ids) });
    if (asked.length === 0) return undefined;
    const options = { maxTokens, context, cache: storageOf(precision), stop };
    const prompts = new PromptSet(asked.map(({ ids }) => ids), options);
    return new EvaluationPrompts(tokenizer, asked, prompts);
  }

  /** The model's answers. @param check May throw to leave them. */
  async answers(gpu: Gpu, engine: Engine, check: () => void): Promise<SampleAnswer[]> {
    const answers = await this.prompts.answers(gpu, engine, check);
    return this.#asked.map(({ ids, expected }, i) => ({
      prompt: this.#tokenizer.decode([...ids]),
      answer: this.#tokenizer.decode(answers[i]),
      expected,
    }));
  }
}

/** An answer for people: its question, without a template, and the answer, a line each. */
export function describeAnswer({ prompt, answer }: SampleAnswer): string {
  const line = (text: string) => text.trim().replace(/\s*\n\s*/g, " ⏎ ");
  const [, question = prompt] = /### Instruction:\n([^]*)\n\n### Response:$/.exec(prompt) ?? [];
  const asked = shortened(line(question), SHOWN_PROMPT);
  return `  ${asked}\n    ${shortened(line(answer), SHOWN_ANSWER)}`;
}
