/**
 * The normalizers of a tokenizer.json, as the Rust library `tokenizers` computes them.
 *
 * @module
 */
import { bytesToCharacters } from "./byte_level.ts";
import { precompiled } from "./precompiled.ts";
import { replaceMatches, stretches } from "./split.ts";
import { flagOf, patternOf, type Patterns, refuse, type Step, steps, textOf } from "./steps.ts";
import { lowerCase, MARK, normalizeUnicode, SPACE } from "./unicode.ts";

/** A text on its way, and whether characters were taken off its beginning. */
export interface Normalized {
  text: string;
  shifted: boolean;
}

/** Changes a text. */
export type Normalizer = (text: string) => Normalized;

const MARKS = new RegExp(MARK, "gv");
const SPACES_BEFORE = new RegExp(`^${SPACE}+`, "v");
const SPACES_AFTER = new RegExp(`${SPACE}+$`, "v");

/** A change that takes nothing off the beginning. */
function plain(change: (text: string) => string): Normalizer {
  return (text) => ({ text: change(text), shifted: false });
}

/** A change that takes out characters. */
function without(pattern: RegExp): Normalizer {
  return (text) => ({
    text: text.replaceAll(pattern, ""),
    shifted: text.search(new RegExp(pattern.source, "v")) === 0,
  });
}

function strip(step: Step): Normalizer {
  const left = flagOf(step, "strip_left", true, "normalizer");
  const right = flagOf(step, "strip_right", true, "normalizer");
  return (text) => {
    const from = left ? text.replace(SPACES_BEFORE, "") : text;
    return { text: right ? from.replace(SPACES_AFTER, "") : from, shifted: from !== text };
  };
}

function replace(step: Step, patterns: Patterns): Normalizer {
  const pattern = patternOf(step, "normalizer", patterns);
  const content = textOf(step, "content", "normalizer");
  return (text) => {
    const found = stretches(text, pattern);
    const first = found.at(0);
    // What is written for a match belongs to its last character.
    const shifted = first !== undefined && first.match && first.end > 0 &&
      (content === "" || [...text.slice(0, first.end)].length > 1);
    return { text: replaceMatches(text, found, content), shifted };
  };
}

/** Characters of Chinese and Japanese writing, by BERT's list of blocks. */
const CHINESE =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

/** What BERT takes out: NUL, U+FFFD and characters without a glyph, but no white space. */
const UNCLEAN_CLASS = "[\\0\\ufffd[\\p{C}--[\\t\\n\\r\\p{Cn}]]]";
const UNCLEAN = new RegExp(UNCLEAN_CLASS, "gv");

function bert(step: Step): Normalizer[] {
  const flag = (key: string, absent: boolean) => flagOf(step, key, absent, "normalizer");
  const lower = flag("lowercase", true);
  const list: Normalizer[] = [];
  if (flag("clean_text", true)) {
    list.push(
      without(UNCLEAN),
      plain((text) => text.replaceAll(new RegExp(SPACE, "gv"), " ")),
    );
  }
  if (flag("handle_chinese_chars", true)) list.push(plain((text) => text.replace(CHINESE, " $& ")));
  if (flag("strip_accents", lower)) {
    list.push(plain((text) => normalizeUnicode(text, "NFD")), without(/\p{Mn}/gv));
  }
  if (lower) list.push(plain(lowerCase));
  return list;
}

/** What the normalizer `Nmt` takes out, and what it makes a space. */
const NMT_DROPS_CLASS = "[\\u0001-\\u0008\\u000b\\u000e-\\u001f\\u007f\\u008f\\u009f]";
const NMT_DROPS = new RegExp(NMT_DROPS_CLASS, "gv");
const NMT_SPACES = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/gv;

function normalizerStep(step: Step, patterns: Patterns): Normalizer[] {
  switch (step.type) {
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = step.type;
      return [plain((text) => normalizeUnicode(text, form))];
    }
    case "Lowercase":
      return [plain(lowerCase)];
    case "StripAccents":
      return [without(MARKS)];
    case "Strip":
      return [strip(step)];
    case "Replace":
      return [replace(step, patterns)];
    case "Prepend": {
      const before = textOf(step, "prepend", "normalizer");
      return [plain((text) => text === "" ? "" : before + text)];
    }
    case "ByteLevel":
      return [plain(bytesToCharacters)];
    case "BertNormalizer":
      return bert(step);
    case "Nmt":
      return [without(NMT_DROPS), plain((text) => text.replaceAll(NMT_SPACES, " "))];
    case "Precompiled": {
      const map = precompiled(textOf(step, "precompiled_charsmap", "normalizer"));
      return [plain(map)];
    }
    default:
      refuse("normalizer", step);
  }
}

/** @throws {RangeError} naming the step that can't be used. */
export function normalizer(value: unknown, patterns: Patterns): Normalizer {
  const list = steps(value, "normalizer", "normalizers")
    .flatMap((step) => normalizerStep(step, patterns));
  return (text) => {
    let shifted = false;
    for (const step of list) {
      const changed = step(text);
      text = changed.text;
      shifted ||= changed.shifted;
    }
    return { text, shifted };
  };
}
