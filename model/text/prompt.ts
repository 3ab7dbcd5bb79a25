/**
 * From a sample to token ids: the one render-and-tokenise path of train, score and generate.
 *
 * @module
 */

import { StyledText } from "../../kernels/terminal.ts";
import { countTargets, type Span, targetsAfter } from "./targets.ts";
import { textEncoder } from "./tokenizer/text_encoding.ts";
import type { Tokenizer } from "./tokenizer/tokenizer.ts";

/** An instruction with its surroundings; what is empty or left out isn't there. */
export interface Instruction {
  instruction: string;
  input?: string;
  /** Takes the place of the template's opening sentences. */
  system?: string;
  /** Questions and answers before it. */
  history?: (readonly [question: string, answer: string])[];
}

/** An instruction-following sample. Control tokens that are written out in it are letters. */
export interface AlpacaSample extends Instruction {
  input: string;
  output: string;
}

/**
 * Text without a template, in which control tokens count: after an empty prompt all of it is learnt, else
 * the completion.
 */
export interface RawSample {
  prompt: string;
  completion: string;
}

/** What a model learns from, or answers, without a chat template. */
export type TextSample = AlpacaSample | RawSample;

/** What a sample is to a preference: the better answer or the worse one to a prompt, or the prompt alone. */
export type PreferencePart = "chosen" | "rejected" | "prompt";

/** A sample as the model sees it. */
export interface TokenizedSample {
  /** BOS, prompt, output, EOS. */
  ids: Uint32Array;
  /** Targets of the loss, in ascending order and apart; other ids are only read, and so is the first. */
  targets: readonly Span[];
  /** Whether `ids` was cut at the maximum length, and so lacks its EOS. */
  truncated: boolean;
  /** Of a preference, its part in it. */
  part?: PreferencePart;
}

/** The samples of a row of data, which stay together in a micro-batch. */
export type SampleGroup = readonly TokenizedSample[];

/** Tokens of samples; those of a prompt alone are also its answers'. */
export function tokensOf(samples: Iterable<TokenizedSample>): number {
  let tokens = 0;
  for (const { ids, part } of samples) if (part !== "prompt") tokens += ids.length;
  return tokens;
}

/** How an instruction becomes the text of a prompt. */
export type PromptTemplate = "alpaca" | "none";

const WITH_INPUT = "Below is an instruction that describes a task, paired with an input that " +
  "provides further context. Write a response that appropriately completes the request.";

/** What Alpaca's template begins with where an instruction has no input. */
const ALPACA_OPENING = "Below is an instruction that describes a task. Write a response that " +
  "appropriately completes the request.";

/**
 * The text of a prompt. `alpaca` is the template of Stanford Alpaca with or without an input, ending
 * in "### Response:" with no newline; earlier questions and answers are sections before it in the same form.
 * `none` is the texts themselves, a line each.
 */
export function renderPrompt(
  { instruction, input, system, history = [] }: Instruction,
  template: PromptTemplate,
): string {
  if (template === "none") {
    return [...(system ? [system] : []), ...history.flat(), instruction, ...(input ? [input] : [])]
      .join("\n");
  }
  return alpacaTurns(openingOf({ system, input }), [
    ...history.map(([instruction, answer]) => ({ instruction, answer })),
    { instruction, input },
  ]).text;
}

/** What Alpaca's template begins with: the system text, or its own sentences. */
export function openingOf({ system, input }: { system?: string; input?: string }): string {
  return system || (input ? WITH_INPUT : ALPACA_OPENING);
}

/** Part of a text, in UTF-16 units. */
export interface TextRange {
  start: number;
  end: number;
}

/**
 * Alpaca's template: the opening sentences, and a section for each instruction with what is answered so far.
 *
 * @returns the text, and where its answers are.
 */
export function alpacaTurns(
  opening: string,
  sections: readonly { instruction: string; input?: string; answer?: string }[],
): { text: string; answers: TextRange[] } {
  let text = opening;
  const answers: TextRange[] = [];
  for (const { instruction, input, answer } of sections) {
    const given = input ? `### Input:\n${input}\n\n` : "";
    text += `\n\n### Instruction:\n${instruction}\n\n${given}### Response:`;
    if (answer === undefined) continue;
    answers.push({ start: text.length, end: text.length + answer.length });
    text += answer;
  }
  return { text, answers };
}

/**
 * The ids of `prompt` after those that the tokenizer begins a text with; control tokens that are written out
 * in it are letters.
 */
export function encodePrompt(tokenizer: Tokenizer, prompt: string): Uint32Array {
  return Uint32Array.from([...tokenizer.prefix_ids, ...tokenizer.encode(prompt)]);
}

/**
 * The ids of a text that stands for itself, as `transformers` has them without what comes last: control tokens
 * that are written out in it count, and the beginning (BOS) is not added where it is one of them.
 */
export function encodeRaw(tokenizer: Tokenizer, text: string): Uint32Array {
  const encode = textEncoder({ ...tokenizer, prefix: tokenizer.prefix_ids, suffix: [] });
  return Uint32Array.from(encode(text));
}

/** The ids of a sample's prompt, and of all of it without its end. */
function encodeBoth(
  tokenizer: Tokenizer,
  sample: TextSample,
): [prompt: Uint32Array, all: Uint32Array] {
  if ("completion" in sample) {
    const { prompt, completion } = sample;
    return [encodeRaw(tokenizer, prompt), encodeRaw(tokenizer, prompt + completion)];
  }
  const prompt = renderPrompt(sample, "alpaca");
  return [encodePrompt(tokenizer, prompt), encodePrompt(tokenizer, prompt + sample.output)];
}

/**
 * BOS, prompt and output, EOS, cut at `maxLength` ids. Where the text itself ends with EOS, none is added.
 *
 * Prompt and output are encoded as one text, so a token may span both. As many tokens as the prompt alone has
 * are masked, as in Stanford Alpaca's `preprocess` (https://github.com/tatsu-lab/stanford_alpaca, train.py):
 * such a token is no target. The mask is a position and never depends on an id (padding and EOS may
 * share one). The first token, which nothing precedes, is none either.
 *
 * @param maxLength At least 1.
 */
export function encodeSample(
  tokenizer: Tokenizer,
  sample: TextSample,
  maxLength: number,
): TokenizedSample {
  const [prompt, all] = encodeBoth(tokenizer, sample), { eos_id } = tokenizer;
  const ended = "completion" in sample && all.at(-1) === eos_id;
  const ids = ended ? all : Uint32Array.from([...all, eos_id]);
  const kept = ids.slice(0, maxLength);
  return {
    ids: kept,
    targets: targetsAfter(prompt.length, kept),
    truncated: ids.length > maxLength,
  };
}

/** Number of targets of the loss; 0 where the cut left nothing but the prompt. */
export function supervisedTokens({ targets }: TokenizedSample): number {
  return countTargets(targets);
}

/** Brackets around control tokens; the first pair that the text has none of is used. */
const BRACKETS = ["⟨⟩", "⟪⟫", "«»", "‹›"];

/** Part of a text, which ends before this position of the ids. */
interface Piece {
  text: string;
  control: boolean;
  end: number;
}

/**
 * Ids decoded in pieces: control tokens as they are written, on their own, and the text between them. `cuts`
 * are positions where a piece ends, too.
 */
function decodedPieces(
  tokenizer: Tokenizer,
  ids: readonly number[],
  cuts: ReadonlySet<number>,
): Piece[] {
  const controls = new Map([...tokenizer.special_tokens].map(([text, id]) => [id, text]));
  const pieces: Piece[] = [];
  let begin = 0, before = "";
  const endText = (end: number) => {
    if (end === begin) return;
    // Decoding a piece alone would lose the space before its first word.
    const whole = tokenizer.decode(ids.slice(0, end));
    const text = whole.startsWith(before)
      ? whole.slice(before.length)
      : tokenizer.decode(ids.slice(begin, end));
    if (text !== "") pieces.push({ text, control: false, end });
    [begin, before] = [end, whole];
  };
  for (const [i, id] of ids.entries()) {
    if (cuts.has(i)) endText(i);
    const text = controls.get(id);
    if (text === undefined) continue;
    endText(i);
    pieces.push({ text, control: true, end: i + 1 });
    begin = i + 1;
  }
  endText(ids.length);
  return pieces;
}

/**
 * A sample decoded for people, with the masked parts dim (with `colour`) or in [brackets]. Control tokens are
 * written as the tokenizer does, and told from letters that look the same: inverse, or in ⟨brackets⟩ of
 * their own.
 */
export function describeSample(
  tokenizer: Tokenizer,
  { ids, targets }: TokenizedSample,
  colour = false,
): StyledText {
  const pieces = decodedPieces(tokenizer, Array.from(ids), new Set(targets.flat()));
  const letters = pieces.filter(({ control }) => !control).map(({ text }) => text).join("");
  const [before, after] = BRACKETS.find((pair) => ![...pair].some((c) => letters.includes(c))) ??
    BRACKETS[0];
  const written = ({ text, control }: Piece) => {
    if (!control) return StyledText.of(text);
    return colour ? StyledText.of(text, "inverse") : StyledText.of(before + text + after);
  };
  const part = (from: number, to: number) =>
    pieces.filter(({ end }) => from < end && end <= to).map(written);
  const masked = (from: number, to: number) => {
    if (from === to) return [];
    return [
      colour
        ? StyledText.join(part(from, to), "dim")
        : StyledText.join([StyledText.of("["), ...part(from, to), StyledText.of("]")]),
    ];
  };
  const parts: StyledText[] = [];
  let at = 0;
  for (const [begin, end] of targets) {
    parts.push(...masked(at, begin), ...part(begin, end));
    at = end;
  }
  return StyledText.join([...parts, ...masked(at, ids.length)]);
}
