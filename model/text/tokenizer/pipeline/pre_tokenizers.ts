/**
 * The pre-tokenizers of a tokenizer.json, which cut a text into words, as the Rust library `tokenizers`
 * computes them.
 *
 * @module
 */
import { brief } from "../../../files/json_file.ts";
import { bytesToCharacters } from "./byte_level.ts";
import { type Behavior, BEHAVIORS, cut, type Stretch, stretches } from "./split.ts";
import {
  flagOf,
  literal,
  patternOf,
  type Patterns,
  refuse,
  type Step,
  steps,
  textOf,
  wordOf,
} from "./steps.ts";
import { NUMERIC, PUNCTUATION, SPACE, WORD } from "./unicode.ts";

/** A part of the text that becomes tokens by itself, and whether the text begins with it. */
export interface Word {
  text: string;
  first: boolean;
}

/** Cuts or changes words. */
export type PreTokenizer = (words: readonly Word[]) => Word[];

/** The pattern that `ByteLevel` cuts by: GPT-2's. */
const GPT2_WORDS = new RegExp(
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+" +
    "|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+",
  "gu",
);

function cutBy(pattern: RegExp, behavior: Behavior, invert = false): PreTokenizer {
  return (words) =>
    words.flatMap(({ text, first }) => {
      let found = stretches(text, pattern);
      if (invert) found = found.map((stretch): Stretch => ({ ...stretch, match: !stretch.match }));
      return cut(found, behavior).map(({ start, end }): Word => ({
        text: text.slice(start, end),
        first: first && start === 0,
      }));
    });
}

function each(change: (word: Word) => string): PreTokenizer {
  return (words) =>
    words.map((word) => ({ text: change(word), first: word.first }))
      .filter(({ text }) => text !== "");
}

function byteLevel(step: Step): PreTokenizer[] {
  const list: PreTokenizer[] = [];
  if (flagOf(step, "add_prefix_space", true, "pre_tokenizer")) {
    list.push(each(({ text }) => text.startsWith(" ") ? text : ` ${text}`));
  }
  if (flagOf(step, "use_regex", true, "pre_tokenizer")) list.push(cutBy(GPT2_WORDS, "Isolated"));
  list.push(each(({ text }) => bytesToCharacters(text)));
  return list;
}

/** When `Metaspace` puts its space symbol before a word: older files say `add_prefix_space`. */
export function prependScheme(step: Step, what: string): "always" | "first" | "never" {
  const add = flagOf(step, "add_prefix_space", true, what);
  const scheme = wordOf(step, "prepend_scheme", ["always", "first", "never"], "always", what);
  if (step.add_prefix_space === false) {
    if (step.prepend_scheme !== undefined && scheme !== "never") {
      throw new RangeError(
        `has a ${what} Metaspace with prepend_scheme ${
          brief(scheme)
        } and add_prefix_space false, ` +
          "which contradict each other",
      );
    }
    return "never";
  }
  return add ? scheme : "never";
}

function metaspace(step: Step): PreTokenizer[] {
  const symbol = textOf(step, "replacement", "pre_tokenizer");
  const scheme = prependScheme(step, "pre_tokenizer");
  const mark = each(({ text, first }) => {
    const marked = text.replaceAll(" ", symbol);
    const adds = scheme === "always" || (scheme === "first" && first);
    return adds && !marked.startsWith(symbol) ? symbol + marked : marked;
  });
  if (!flagOf(step, "split", true, "pre_tokenizer")) return [mark];
  return [mark, cutBy(new RegExp(literal(symbol), "gu"), "MergedWithNext")];
}

/** Words of so many characters, the last may be shorter. */
function fixedLength(step: Step): PreTokenizer {
  const length = step.length ?? 5;
  if (!Number.isSafeInteger(length) || (length as number) < 1) {
    throw new RangeError(
      `has a pre_tokenizer "FixedLength" with length ${brief(length)}, expected a whole number`,
    );
  }
  return cutBy(new RegExp(`[^]{1,${length}}`, "gu"), "Isolated");
}

function preTokenizerStep(step: Step, patterns: Patterns): PreTokenizer[] {
  const behavior = (absent?: Behavior) =>
    wordOf(step, "behavior", BEHAVIORS, absent, "pre_tokenizer");
  switch (step.type) {
    case "ByteLevel":
      return byteLevel(step);
    case "Metaspace":
      return metaspace(step);
    case "Split": {
      const pattern = patternOf(step, "pre_tokenizer", patterns);
      return [cutBy(pattern, behavior(), flagOf(step, "invert", false, "pre_tokenizer"))];
    }
    case "Digits":
      return [
        cutBy(
          new RegExp(NUMERIC, "gv"),
          flagOf(step, "individual_digits", false, "pre_tokenizer") ? "Isolated" : "Contiguous",
        ),
      ];
    case "Punctuation":
      return [cutBy(new RegExp(PUNCTUATION, "gv"), behavior("Isolated"))];
    case "Whitespace":
      return [cutBy(new RegExp(`${WORD}+|[^${WORD}${SPACE}]+`, "gv"), "Removed", true)];
    case "WhitespaceSplit":
      return [cutBy(new RegExp(SPACE, "gv"), "Removed")];
    case "BertPreTokenizer":
      return [
        cutBy(new RegExp(SPACE, "gv"), "Removed"),
        cutBy(new RegExp(PUNCTUATION, "gv"), "Isolated"),
      ];
    case "CharDelimiterSplit":
      return [
        cutBy(new RegExp(literal(textOf(step, "delimiter", "pre_tokenizer")), "gu"), "Removed"),
      ];
    case "FixedLength":
      return [fixedLength(step)];
    default:
      refuse("pre_tokenizer", step);
  }
}

/** @throws {RangeError} naming the step that can't be used. */
export function preTokenizer(value: unknown, patterns: Patterns): PreTokenizer {
  const list = steps(value, "pre_tokenizer", "pretokenizers")
    .flatMap((step) => preTokenizerStep(step, patterns));
  return (words) => list.reduce<Word[]>((now, step) => step(now), [...words]);
}
