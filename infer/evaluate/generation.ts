/**
 * Answers to prompts, as many at once as there are slots.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { Answer } from "../../model/engine/answer.ts";
import type { Engine, Sequence } from "../../model/engine/engine.ts";
import type { EngineSizes } from "../../model/engine/slots.ts";
import type { Dtype } from "../../kernels/gpu/tensor.ts";
import type { Prompt } from "./requests.ts";

/** What answers are made with. */
export interface Answering {
  engine: Engine;
  /** Text of ids, without control tokens. */
  decode: (ids: readonly number[]) => string;
  /** Tokens that end an answer. */
  stop: readonly number[];
  /** The text of the tokenizer's EOS, which ends an answer where it is written out. */
  stopText: string;
}

/** The sizes of an engine for prompts, so many at once, of which the cache has no more than so many tokens but for one. */
export function engineSizes(
  prompts: readonly Prompt[],
  { sequences, tokens, cache }: { sequences: number; tokens: number; cache: Dtype },
): EngineSizes {
  let context = 1, longest = 1;
  for (const { ids, generation } of prompts) {
    context = Math.max(context, ids.length + generation.maxTokens);
    longest = Math.max(longest, ids.length);
  }
  const fitting = Math.max(1, Math.floor(tokens / context));
  const slots = Math.min(sequences, prompts.length, fitting);
  return { sequences: slots, context, promptTokens: slots * longest, cache };
}

/** Prompts in the order in which they are answered. */
function inOrder(prompts: readonly Prompt[]): number[] {
  // The longest first: those that begin alike come one after the other, and find their beginning in the cache.
  return [...prompts.keys()].sort((a, b) => prompts[b].ids.length - prompts[a].ids.length);
}

/** Launches what the first answers take; see {@linkcode Engine.rehearse}. */
export function rehearseAnswers(gpu: Gpu, engine: Engine, prompts: readonly Prompt[]): void {
  const first = inOrder(prompts).slice(0, engine.sizes.sequences).map((i) => prompts[i]);
  const maxTokens = Math.max(...first.map(({ generation }) => generation.maxTokens));
  engine.rehearse(gpu, first.map(({ ids }) => ids), { maxTokens, stop: [] });
}

/**
 * The answers, in the order of the prompts.
 *
 * @param progress Told after each chunk how many answers are done; may throw to end it.
 */
export async function answerPrompts(
  gpu: Gpu,
  prompts: readonly Prompt[],
  { engine, decode, stop, stopText }: Answering,
  progress?: (done: number) => void,
): Promise<string[]> {
  const answers = prompts.map(({ generation: { until } }) =>
    new Answer(decode, stopText === "" ? until : [...until, stopText], () => {})
  );
  const waiting = inOrder(prompts);
  const going = new Map<Sequence, Answer>();
  let next = 0, done = 0;
  while (next < waiting.length || going.size > 0) {
    for (; next < waiting.length && going.size < 2 * engine.sizes.sequences; next++) {
      const { ids, generation: { maxTokens } } = prompts[waiting[next]];
      going.set(engine.admit(ids, { maxTokens, stop, reuse: true }), answers[waiting[next]]);
    }
    for (const { sequence, id } of await engine.step(gpu)) {
      const answer = going.get(sequence);
      if (answer === undefined || answer.push(id)) continue;
      engine.evict(sequence);
      going.delete(sequence);
      done++;
    }
    for (const [sequence, answer] of going) {
      if (sequence.finished === undefined) continue;
      answer.end();
      going.delete(sequence);
      done++;
    }
    progress?.(done);
  }
  return answers.map(({ text }) => text);
}
