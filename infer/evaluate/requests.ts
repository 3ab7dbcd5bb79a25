/**
 * The questions of all tasks as requests to a model: ids that are scored, and prompts that are continued.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { Continuation } from "../../model/transformer/continuations.ts";
import type { RequestEncoder, ScoredIds } from "./encoding.ts";
import type { Generation } from "./generation_settings.ts";
import type { PreparedRow, PreparedTask } from "./prepare.ts";

/** A prompt that is to be continued. */
export interface Prompt {
  ids: number[];
  generation: Generation;
}

/** Where the answers to a row's question lie: so many of a list from a place on. */
export interface RowRequests {
  row: PreparedRow;
  first: number;
  count: number;
}

/** A task's rows with their requests. */
export interface TaskRequests {
  prepared: PreparedTask;
  rows: readonly RowRequests[];
}

/** All that a model is asked. */
export interface Requests {
  tasks: readonly TaskRequests[];
  continuations: readonly Continuation[];
  prompts: readonly Prompt[];
  /** Texts that were cut from the left to what the model reads. */
  truncated: number;
}

/** Gathers requests. */
class Gatherer {
  readonly continuations: Continuation[] = [];
  readonly prompts: Prompt[] = [];
  truncated = 0;
  #group = 0;

  constructor(readonly encoder: RequestEncoder) {}

  #score(scored: ScoredIds, group: number): void {
    const { input, continuation, truncated } = scored;
    if (truncated) this.truncated++;
    const ids = { input: Uint32Array.from(input), targets: Uint32Array.from(continuation) };
    this.continuations.push({ ...ids, group });
  }

  row({ task }: PreparedTask, row: PreparedRow): RowRequests {
    const { encoder } = this, { question, document } = row, group = this.#group++;
    const where = (what: string) => () => `${document.where()}, ${task.where}: ${what}`;
    const scoredBefore = this.continuations.length;
    switch (question.kind) {
      case "choices":
        for (const [i, [context, continuation]] of question.pairs.entries()) {
          const which = where(`choice ${i % question.choices.length}`);
          this.#score(encoder.pair(context, continuation, which), group);
        }
        break;
      case "continuation": {
        const { context, continuation } = question;
        this.#score(encoder.pair(context, continuation, where("doc_to_target")), group);
        break;
      }
      case "rolling":
        for (const window of encoder.rolling(question.text, where("doc_to_target"))) {
          this.#score(window, group);
        }
        break;
      case "generation": {
        const { generation } = task, first = this.prompts.length;
        if (generation === undefined) {
          throw new Error(`${task.name} has no settings to generate by`);
        }
        const { maxTokens } = generation;
        if (maxTokens >= encoder.maxLength) {
          throw new UserError(
            `${task.where}: generation_kwargs allow ${maxTokens} tokens (max_gen_toks), and the model reads ` +
              `${encoder.maxLength} with the prompt; expected fewer`,
          );
        }
        const { ids, truncated } = encoder.prompt(question.context, maxTokens, where("its prompt"));
        if (truncated) this.truncated++;
        this.prompts.push({ ids, generation });
        return { row, first, count: 1 };
      }
    }
    return { row, first: scoredBefore, count: this.continuations.length - scoredBefore };
  }
}

/**
 * Encodes the questions of tasks.
 *
 * @param progress Told after each row how many are done.
 * @throws {UserError} where a text makes no token, or too many, with its file and row.
 */
export function makeRequests(
  tasks: readonly PreparedTask[],
  encoder: RequestEncoder,
  progress?: (done: number) => void,
): Requests {
  const gatherer = new Gatherer(encoder);
  let done = 0;
  const all = tasks.map((prepared): TaskRequests => ({
    prepared,
    rows: prepared.rows.map((row) => {
      const requests = gatherer.row(prepared, row);
      progress?.(++done);
      return requests;
    }),
  }));
  const { continuations, prompts, truncated } = gatherer;
  return { tasks: all, continuations, prompts, truncated };
}
