/**
 * How byte-level tokenizers cut a text into words, by the names that GGUF has for it (`tokenizer.ggml.pre`). A name
 * stands for the pre-tokenizer that the model was published with; the patterns are those of its tokenizer.json.
 *
 * @module
 */

import { isObject } from "../../../files/json_file.ts";

/** How words are cut and merged. */
export interface PreTokenization {
  /** Steps of a tokenizer.json before the bytes become characters. */
  steps: readonly unknown[];
  /** Whether the last step, which makes characters of bytes, cuts words as GPT-2 does. */
  gpt2_words?: boolean;
  normalizer?: unknown;
  /** A word that is a token is not merged from its parts. */
  ignore_merges?: boolean;
  /** BOS stands before a text where the file does not say. */
  adds_bos?: boolean;
}

function split(...patterns: string[]): unknown[] {
  return patterns.map((pattern) => ({
    type: "Split",
    pattern: { Regex: pattern },
    behavior: "Isolated",
    invert: false,
  }));
}

const digits = (individual_digits: boolean) => ({ type: "Digits", individual_digits });

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const REST = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** As tiktoken's cl100k_base: contractions, a word with what is before it, numbers of so many digits. */
function cl100k(numbers: string): string {
  return `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}${REST}`;
}

/** As tiktoken's o200k_base: a word changes where capitals follow small letters. */
function o200k(numbers: string, contractions: string): string {
  const before = "[^\\r\\n\\p{L}\\p{N}]?";
  const capital = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", small = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
  return `${before}${capital}*${small}+${contractions}|${before}${capital}+${small}*${contractions}` +
    `|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
}

/** Scripts that are written without spaces. */
const UNSPACED = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+";

/** Letters as DeepSeek LLM counts them: those of alphabets that have capitals. */
const CASED_LETTERS = "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf" +
  "\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a" +
  "\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5" +
  "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a" +
  "\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d" +
  "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3" +
  "\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115" +
  "\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149" +
  "\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d" +
  "\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17" +
  "\uff21-\uff3a\uff41-\uff5a\u{10400}-\u{1044f}\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}" +
  "\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}\u{1e900}-\u{1e943}";

const PUNCTUATION = "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002";

const LLAMA_3: PreTokenization = {
  steps: split(cl100k("\\p{N}{1,3}")),
  ignore_merges: true,
  adds_bos: true,
};
const GPT_2: PreTokenization = { steps: [], gpt2_words: true };
/** Each digit by itself, then as GPT-2. */
const STARCODER: PreTokenization = { steps: [digits(true)], gpt2_words: true };
const QWEN_2: PreTokenization = { steps: split(cl100k("\\p{N}")), normalizer: { type: "NFC" } };
const GPT_4O: PreTokenization = { steps: split(o200k("\\p{N}{1,3}", `${CONTRACTIONS}?`)) };

const BY_NAME: Readonly<Record<string, PreTokenization>> = {
  "llama-bpe": LLAMA_3,
  "llama3": LLAMA_3,
  "llama-v3": LLAMA_3,
  "falcon3": LLAMA_3,
  "pixtral": LLAMA_3,
  "smaug-bpe": { steps: split(cl100k("\\p{N}{1,3}")) },
  "dbrx": { steps: split(cl100k("\\p{N}{1,3}")) },
  "gpt-2": GPT_2,
  "phi-2": GPT_2,
  "mpt": GPT_2,
  "olmo": GPT_2,
  "jais": GPT_2,
  "trillion": GPT_2,
  "exaone4": GPT_2,
  "starcoder": STARCODER,
  "refact": STARCODER,
  "command-r": { ...STARCODER, normalizer: { type: "NFC" } },
  "smollm": STARCODER,
  "codeshell": STARCODER,
  "exaone": STARCODER,
  "minerva-7b": STARCODER,
  "qwen2": QWEN_2,
  "deepseek-r1-qwen": QWEN_2,
  "megrez": QWEN_2,
  "stablelm2": QWEN_2,
  "seed-coder": {
    steps: split(
      `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+` +
        "|\\s+(?!\\S)|\\s+",
    ),
  },
  "gpt-4o": GPT_4O,
  "llama4": GPT_4O,
  "tekken": { steps: split(o200k("\\p{N}", "")), ignore_merges: true, adds_bos: true },
  "deepseek-llm": {
    steps: [
      ...split(
        "[\\r\\n]",
        `\\s?[${CASED_LETTERS}]+`,
        `\\s?[${PUNCTUATION}]+`,
        "\\s+$",
        UNSPACED,
      ),
      digits(false),
    ],
  },
  "deepseek-coder": {
    steps: [...split("[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", UNSPACED), digits(true)],
  },
  "deepseek-v3": {
    steps: split(
      "\\p{N}{1,3}",
      "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+" +
        "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ),
  },
  // llama.cpp's own, for files that were made before names were.
  "default": {
    steps: split(
      "[\\p{P}\\$\\+<=>\\^~\\|]+",
      GPT2,
      "\\p{N}+",
      "[0-9][0-9][0-9]",
    ),
  },
};

/** What a name stands for; undefined of one that is not known. */
export function preTokenizationOf(pre: string): PreTokenization | undefined {
  return Object.hasOwn(BY_NAME, pre) ? BY_NAME[pre] : undefined;
}

/** The names that are known. */
export const PRE_NAMES: readonly string[] = Object.keys(BY_NAME);

/** Steps of a tokenizer.json one after another, of those that stand in a sequence, too. */
function flat(part: unknown, list: string): unknown[] {
  if (!isObject(part)) return [];
  const inner = part[list];
  return Array.isArray(inner) ? inner.flatMap((step) => flat(step, list)) : [part];
}

/** A step as a text that is the same for steps that do the same. */
function stepKey(step: unknown): string {
  if (!isObject(step)) return "";
  const { type, pattern, behavior, invert, individual_digits } = step;
  // Patterns that match all of a text: what is between matches is removed, and there is nothing.
  const isolates = behavior === "Isolated" && invert !== true ||
    behavior === "Removed" && invert === true;
  if (type === "Split" && isolates && isObject(pattern)) {
    // Some files have line breaks in the pattern where others have escapes.
    return `Split ${pattern.Regex}`.replaceAll("\r", "\\r").replaceAll("\n", "\\n");
  }
  if (type === "Digits") return `Digits ${individual_digits === true}`;
  return JSON.stringify(step);
}

/** A byte-level tokenizer.json. */
interface ByteLevelParts {
  normalizer: unknown;
  pre_tokenizer: unknown;
  ignore_merges: boolean;
}

/** The last step of a byte-level pre-tokenizer, which makes characters of bytes; undefined of another. */
export function byteLevelStep(pre_tokenizer: unknown): Record<string, unknown> | undefined {
  const last = flat(pre_tokenizer, "pretokenizers").at(-1);
  return isObject(last) && last.type === "ByteLevel" ? last : undefined;
}

/** The name of the way in which a byte-level tokenizer cuts words; undefined where it has none. */
export function preNameOf(
  { normalizer, pre_tokenizer, ignore_merges }: ByteLevelParts,
): string | undefined {
  const last = byteLevelStep(pre_tokenizer);
  if (last === undefined || last.add_prefix_space !== false) return undefined;
  const steps = flat(pre_tokenizer, "pretokenizers").slice(0, -1).map(stepKey);
  const normalizers = flat(normalizer, "normalizers").map(stepKey);
  const wanted = JSON.stringify([steps, normalizers, last.use_regex !== false, ignore_merges]);
  return PRE_NAMES.find((name) => {
    const { steps, normalizer, gpt2_words = false, ignore_merges = false } = BY_NAME[name];
    const normalizers = flat(normalizer, "normalizers").map(stepKey);
    return wanted === JSON.stringify([steps.map(stepKey), normalizers, gpt2_words, ignore_merges]);
  });
}
