/**
 * The steps of a `tokenizer.json`, checked and written in the form that the tokenizers library computes as
 * Hugging Face's own (Rust) library does. Where the two differ:
 *
 * - `ByteLevel` and `Digits` of the library use JavaScript's `\s` and `\d`: U+FEFF is a space, U+0085 is
 *   none, and only ASCII digits are digits. Its `Split` translates patterns faithfully: it replaces both.
 * - `Metaspace` of the library never cuts at spaces, and knows `prepend_scheme` but not the older
 *   `add_prefix_space`.
 *
 * Steps that no Llama uses, or that the library computes otherwise, are refused by name.
 *
 * @module
 */
import { brief, isObject } from "../files/weights.ts";

/** A step: its type and its own settings. */
type Step = Record<string, unknown>;

function refuse(what: string, step: unknown): never {
  const name = isObject(step) && typeof step.type === "string"
    ? `type ${brief(step.type)}`
    : "no type";
  throw new RangeError(`has a ${what} of ${name}, which is not supported`);
}

/** The steps of a sequence, of a single one or of none, in order. */
function steps(value: unknown, what: string, list: string): Step[] {
  if (value === null || value === undefined) return [];
  if (!isObject(value)) refuse(what, value);
  if (value.type !== "Sequence") return [value];
  const inner = value[list];
  if (!Array.isArray(inner)) throw new RangeError(`has a ${what} sequence without "${list}"`);
  return inner.flatMap((step) => steps(step, what, list));
}

function checkPattern({ pattern }: Step, what: string): void {
  const text = isObject(pattern) ? pattern.Regex ?? pattern.String : undefined;
  if (typeof text !== "string") {
    throw new RangeError(
      `has a ${what} with pattern ${brief(pattern)}, expected a String or Regex`,
    );
  }
}

/** @throws {RangeError} naming the step that can't be used. */
export function normalizer(value: unknown): Step | null {
  const list = steps(value, "normalizer", "normalizers");
  for (const step of list) {
    if (step.type === "Replace") {
      checkPattern(step, "normalizer");
      if (typeof step.content !== "string") refuse("normalizer without content", step);
    } else if (step.type === "Prepend") {
      if (typeof step.prepend !== "string") refuse("normalizer without its text", step);
    } else if (!["NFC", "NFD", "NFKC", "NFKD"].includes(step.type as string)) {
      refuse("normalizer", step);
    }
  }
  return list.length === 0 ? null : { type: "Sequence", normalizers: list };
}

/** The pattern that `ByteLevel` splits by: GPT-2's. */
const GPT2_WORDS =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

function split(regex: string): Step {
  return { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false };
}

function preTokenizerStep(step: Step): Step[] {
  switch (step.type) {
    case "ByteLevel":
      return [
        ...(step.add_prefix_space === true
          ? [{ type: "Replace", pattern: { Regex: "\\A(?! )" }, content: " " }]
          : []),
        ...(step.use_regex === false ? [] : [split(GPT2_WORDS)]),
        { type: "ByteLevel", add_prefix_space: false, use_regex: false },
      ];
    case "Digits":
      return [split(step.individual_digits === true ? "\\p{N}" : "\\p{N}+")];
    case "Metaspace": {
      const { replacement = "\u2581", add_prefix_space, prepend_scheme } = step;
      if (replacement !== "\u2581") {
        throw new RangeError(`has a Metaspace of ${brief(replacement)}, expected U+2581`);
      }
      const scheme = prepend_scheme ?? (add_prefix_space === false ? "never" : "always");
      return [
        { type: "Metaspace", replacement, prepend_scheme: scheme },
        ...(step.split === false ? [] : [split("\u2581[^\u2581]*")]),
      ];
    }
    case "Split": {
      checkPattern(step, "pre_tokenizer");
      const { behavior, invert } = step;
      const known = behavior === "Removed" || (behavior === "Isolated" && invert !== true);
      if (!known) refuse(`pre_tokenizer with behavior ${brief(behavior)}`, step);
      return [step];
    }
    default:
      refuse("pre_tokenizer", step);
  }
}

/** @throws {RangeError} naming the step that can't be used. */
export function preTokenizer(value: unknown): Step | null {
  const list = steps(value, "pre_tokenizer", "pretokenizers").flatMap(preTokenizerStep);
  return list.length === 0 ? null : { type: "Sequence", pretokenizers: list };
}

/** How tokens become text: characters that each stand for a byte, or pieces as SentencePiece has them. */
export type Decoding =
  | { kind: "bytes" }
  | { kind: "pieces"; byteFallback: boolean; firstSpace: "kept" | "dropped" };

/** @throws {RangeError} naming the step that can't be used. */
export function decoding(value: unknown): Decoding {
  const list = steps(value, "decoder", "decoders");
  if (list.length === 1 && list[0].type === "ByteLevel") return { kind: "bytes" };
  let spaces = false, byteFallback = false, drop = false;
  for (const step of list) {
    const { type, pattern, content, start, stop, prepend_scheme, add_prefix_space } = step;
    if (type === "Replace" && isObject(pattern) && pattern.String === "\u2581" && content === " ") {
      spaces = true;
    } else if (type === "Metaspace") {
      spaces = true;
      drop = (prepend_scheme ?? (add_prefix_space === false ? "never" : "always")) !== "never";
    } else if (type === "ByteFallback") {
      byteFallback = true;
    } else if (type === "Strip" && content === " " && Number(start) <= 1 && stop === 0) {
      drop = start === 1;
    } else if (type !== "Fuse") {
      refuse("decoder", step);
    }
  }
  if (!spaces) throw new RangeError("has a decoder that makes no spaces, which is not supported");
  return { kind: "pieces", byteFallback, firstSpace: drop ? "dropped" : "kept" };
}
