/**
 * A run's held-out losses and sample answers, from evaluations.jsonl.
 *
 * @module
 */
import { isObject } from "../../model/files/json_file.ts";
import type { LineReader } from "./tail.ts";
import type { SampleAnswer } from "./page/view.ts";
import { plainText } from "./plain_text.ts";

/** Evaluations that are kept, and those whose answers are. */
const MOST = 5000, MOST_ANSWERED = 20;
/** Answers of an evaluation that are shown, and characters of each text. */
const MOST_SAMPLES = 32, LONGEST_TEXT = 4000;

/** One evaluation. */
export interface EvaluationLine {
  readonly step: number;
  readonly loss: number;
  readonly samples: readonly SampleAnswer[];
}

function shortened(value: unknown): string {
  const text = typeof value === "string" ? value : "";
  return plainText(text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)} …` : text);
}

/** A line as an evaluation; undefined where it is none. */
function parse(text: string): EvaluationLine | undefined {
  let line: Record<string, unknown>;
  try {
    line = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { step, loss, samples } = line ?? {};
  if (typeof step !== "number" || !Number.isSafeInteger(step) || step < 0) return undefined;
  const listed: unknown[] = Array.isArray(samples) ? samples.slice(0, MOST_SAMPLES) : [];
  return {
    step,
    loss: typeof loss === "number" ? loss : NaN,
    samples: listed.filter(isObject).map(({ prompt, answer, expected }) => ({
      prompt: shortened(prompt),
      answer: shortened(answer),
      ...(expected === undefined ? {} : { expected: shortened(expected) }),
    })),
  };
}

/** The lines of evaluations.jsonl, the last ones with their answers. */
export class Evaluations implements LineReader {
  #all: Omit<EvaluationLine, "samples">[] = [];
  #answered: EvaluationLine[] = [];

  restart(): void {
    this.#all = [];
    this.#answered = [];
  }

  lines(text: string): void {
    for (const own of text.split("\n")) {
      const line = parse(own);
      if (line !== undefined) this.#add(line);
    }
  }

  #add(line: EvaluationLine): void {
    const { step, loss, samples } = line;
    if (step <= (this.#all.at(-1)?.step ?? -1)) { // a run that went back
      this.#all = this.#all.filter((other) => other.step < step);
      this.#answered = this.#answered.filter((other) => other.step < step);
    }
    this.#all.push({ step, loss });
    if (samples.length > 0) this.#answered.push(line);
    if (this.#all.length > MOST) this.#all.shift();
    if (this.#answered.length > MOST_ANSWERED) this.#answered.shift();
  }

  /** All, in order of their steps, without their answers. */
  get all(): readonly Omit<EvaluationLine, "samples">[] {
    return this.#all;
  }

  /** Those with answers. */
  get answered(): readonly EvaluationLine[] {
    return this.#answered;
  }
}
