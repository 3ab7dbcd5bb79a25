/**
 * Prompts that the model in training answers between steps.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import type { Dtype } from "../../kernels/gpu/tensor.ts";
import { Engine } from "../../model/engine/engine.ts";
import type { EngineSizes } from "../../model/engine/slots.ts";
import type { Decoding } from "../../model/transformer/modes.ts";
import type { Llama } from "../../model/transformer/llama.ts";

/** Prompts with the room that answering all of them at once takes. */
export class PromptSet {
  readonly sizes: EngineSizes;

  /**
   * @param prompts One or more, each of one or more tokens.
   * @param options `maxTokens` of an answer, `context`: the model's limit on prompt and answer, `cache`: the type of keys and
   *   values, `stop`: tokens that end an answer.
   * @throws {UserError} where a prompt leaves no room for an answer.
   */
  constructor(
    readonly prompts: readonly (readonly number[])[],
    readonly options: { maxTokens: number; context: number; cache: Dtype; stop: readonly number[] },
  ) {
    const { maxTokens, context, cache } = options, lengths = prompts.map(({ length }) => length);
    const longest = Math.max(...lengths);
    if (longest >= context) {
      throw new UserError(
        `a prompt to be answered at evaluations has ${longest} tokens, but the model has a context of ` +
          `${context}; expected at most ${context - 1}, so that an answer has room`,
      );
    }
    this.sizes = {
      sequences: prompts.length,
      context: Math.min(longest + maxTokens, context),
      promptTokens: lengths.reduce((sum, length) => sum + length, 0),
      cache,
    };
  }

  /** What answering takes beside the model. */
  engine(memory: Memory, model: Llama): Engine {
    return new Engine(memory, model, this.sizes);
  }

  /** The tokens of the model's answers, the most likely each time; what `check` throws ends them. */
  async answers(gpu: Gpu, engine: Engine, check: () => void): Promise<number[][]> {
    return await engine.answers(gpu, this.prompts, this.options, check);
  }
}

/** What answering several sets, one after the other, asks of a model; undefined where there is none. */
export function decodingOf(sets: readonly PromptSet[]): Decoding | undefined {
  if (sets.length === 0) return undefined;
  const most = (key: keyof Decoding) => Math.max(...sets.map(({ sizes }) => sizes[key]));
  return { sequences: most("sequences"), context: most("context") };
}
