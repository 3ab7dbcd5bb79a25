/**
 * From a task to what a model is asked, and what is right of the answers. All of a task is looked at before the model is.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { Contexts, type ContextSettings } from "./context.ts";
import type { Document, Split } from "./documents.ts";
import { readSplit } from "./documents.ts";
import { fewshotPool, type Sampler } from "./fewshot.ts";
import { endsInSpace } from "./python/strings.ts";
import type { Task } from "./task.ts";
import { type Target, TaskTexts } from "./task_texts.ts";

/** What the user chooses of all tasks. */
export interface EvaluationSettings extends ContextSettings {
  /** Rows of a task: so many of the first, or below 1 this share of them; undefined for all. */
  limit: number | undefined;
  /** Few-shot examples, in place of what tasks say; tasks that say 0 keep it. */
  numFewshot: number | undefined;
  /** What few-shot examples are drawn by. */
  fewshotSeed: number;
}

/** What the model is asked of a row, and what is right. */
export type Question =
  /** Continuations of contexts: the first `choices.length` are of the choices, others of the choices alone. */
  | {
    kind: "choices";
    pairs: readonly (readonly [context: string, continuation: string])[];
    choices: readonly string[];
    /** The right ones. */
    gold: readonly number[];
  }
  | { kind: "continuation"; context: string; continuation: string }
  | { kind: "rolling"; text: string }
  | { kind: "generation"; context: string; gold: readonly string[] };

/** A row with what is asked of it. */
export interface PreparedRow {
  document: Document;
  /** Its place in the split, from 0. */
  id: number;
  target: Target;
  question: Question;
}

/** A task with its rows. */
export interface PreparedTask {
  task: Task;
  rows: readonly PreparedRow[];
  /** Rows of the split, also those that the limit leaves out. */
  splitRows: number;
  numFewshot: number;
  /** Whether a row's right answers are several, of which one is enough. */
  severalTargets: boolean;
}

/** The splits of a task, each read once. */
function splitReader({ data }: Task): (name: string) => Promise<Split> {
  const splits = new Map<string, Promise<Split>>();
  return (name) => {
    const known = splits.get(name) ?? readSplit(data.files.get(name) ?? [], data.format);
    splits.set(name, known);
    return known;
  };
}

/** The right choices of a row as numbers. */
function goldChoices(target: Target, choices: readonly string[], where: string): number[] {
  return [target].flat().map((one) => {
    const number = typeof one === "number" ? one : choices.indexOf(one);
    if (number >= 0 && number < choices.length) return number;
    throw new UserError(
      `${where}: doc_to_target is ${
        JSON.stringify(one)
      }, which is none of the choices; expected a number from 0 to ` +
        `${choices.length - 1}, or one of ${JSON.stringify(choices)}`,
    );
  });
}

/** What is done alike with every row of a task. */
interface RowReader {
  task: Task;
  texts: TaskTexts;
  contexts: Contexts;
  severalTargets: boolean;
}

function wrongTarget(target: Target, where: string, expected: string): UserError {
  return new UserError(
    `${where}: doc_to_target is ${JSON.stringify(target)}; expected ${expected}`,
  );
}

function choiceQuestion(
  { task: { keys, metrics }, texts, contexts, severalTargets }: RowReader,
  document: Document,
  found: { contexts: readonly string[]; target: Target; where: string },
): Question {
  const { target, where } = found;
  const choices = texts.choices(keys.doc_to_choice, document) ?? [];
  // A chat template says itself what is between a question and its answer.
  const delimits = contexts.settings.chat === undefined ||
    (keys.gen_prefix !== undefined && keys.gen_prefix !== "" && !endsInSpace(keys.gen_prefix));
  const delimiter = delimits ? keys.target_delimiter : "";
  const asked = contexts.choicesAreQuestions
    ? texts.question(keys.doc_to_text ?? "", document)
    : target;
  if (Array.isArray(asked) !== severalTargets) {
    const expected = severalTargets ? "a list, as in the first row" : "one, as in the first row";
    throw wrongTarget(target, where, expected);
  }
  const gold = goldChoices(asked, choices, where);
  const pairs = contexts.choicesAreQuestions
    ? found.contexts.map((context) => [context, `${delimiter}${target}`] as const)
    : choices.map((choice) => [found.contexts[0], delimiter + choice] as const);
  const alone = metrics.some(({ name }) => name === "acc_mutual_info")
    ? choices.map((choice) => ["", delimiter + choice] as const)
    : [];
  return { kind: "choices", pairs: [...pairs, ...alone], choices, gold };
}

function goldTexts(
  { task: { keys }, texts, severalTargets }: RowReader,
  document: Document,
  { target, where }: { target: Target; where: string },
): string[] {
  const choices = texts.choices(keys.doc_to_choice, document);
  if (choices !== undefined) {
    const [gold, ...more] = goldChoices(target, choices, where);
    if (more.length === 0) return [choices[gold]];
    throw wrongTarget(target, where, "the number of one choice");
  }
  if (Array.isArray(target) && !severalTargets) {
    throw wrongTarget(target, where, "one text, as in the first row");
  }
  const all = [target].flat().map(String);
  if (all.length === 0) throw wrongTarget(target, where, "at least one text");
  return all;
}

/** What is asked of a row. */
function questionOf(
  reader: RowReader,
  document: Document,
  examples: readonly Document[],
): { question: Question; target: Target } {
  const { task, texts, contexts } = reader, { keys } = task;
  const where = `${document.where()}, ${task.where}`;
  const target = texts.target(keys.doc_to_target ?? "", document);
  const asText = (of: Target): string => {
    if (typeof of === "string") return of;
    throw wrongTarget(of, where, "text");
  };
  const found = { contexts: contexts.of(document, examples), target, where };
  switch (keys.output_type) {
    case "multiple_choice":
      return { target, question: choiceQuestion(reader, document, found) };
    case "loglikelihood": {
      const [context] = found.contexts;
      return {
        target,
        question: { kind: "continuation", context, continuation: asText(target) },
      };
    }
    case "loglikelihood_rolling":
      return { target, question: { kind: "rolling", text: asText(target) } };
    case "generate_until": {
      const gold = goldTexts(reader, document, { target, where });
      return { target, question: { kind: "generation", context: found.contexts[0], gold } };
    }
  }
}

/** How many rows are evaluated. */
function limited(rows: number, limit: number | undefined): number {
  if (limit === undefined) return rows;
  return Math.min(rows, limit < 1 ? Math.ceil(rows * limit) : limit);
}

/** Few-shot examples of a task. */
function fewshotCount({ keys }: Task, numFewshot: number | undefined): number {
  return keys.num_fewshot === 0 ? 0 : numFewshot ?? keys.num_fewshot ?? 0;
}

/**
 * Reads a task's data and makes its questions.
 *
 * @throws {UserError} where a file or a row is wrong, with its file and number.
 */
export async function prepareTask(
  task: Task,
  settings: EvaluationSettings,
): Promise<PreparedTask> {
  const { keys } = task, read = splitReader(task);
  const split = await read(keys.test_split ?? keys.validation_split ?? "");
  const texts = new TaskTexts(task.where, split.features, keys.doc_to_choice !== undefined);
  // The first row tells of what kind all are.
  const [first] = split.documents;
  const asksChoices = keys.doc_to_choice !== undefined &&
    typeof texts.question(keys.doc_to_text ?? "", first) === "number";
  const severalTargets = !asksChoices &&
    Array.isArray(texts.target(keys.doc_to_target ?? "", first));
  const contexts = new Contexts(task, texts, settings, asksChoices);
  const reader: RowReader = { task, texts, contexts, severalTargets };
  const numFewshot = fewshotCount(task, settings.numFewshot);
  const sampler: Sampler | undefined = numFewshot > 0
    ? await fewshotPool(task, read, { count: numFewshot, seed: settings.fewshotSeed })
    : undefined;
  const rows = split.documents.slice(0, limited(split.documents.length, settings.limit))
    .map((document, id): PreparedRow => {
      const examples = sampler?.(document) ?? [];
      return { document, id, ...questionOf(reader, document, examples) };
    });
  return { task, rows, splitRows: split.documents.length, numFewshot, severalTargets };
}
