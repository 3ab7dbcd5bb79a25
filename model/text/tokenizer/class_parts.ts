/**
 * What the tokenizer classes of `transformers` 5.18 make of a vocabulary: those with a form of their own
 * take the vocabulary, the merges and the post-processor from a folder's files, and nothing else.
 *
 * @module
 */
import {
  type ConvertedParts,
  PIECE_DECODERS,
  STRIP_FIRST_SPACE,
} from "./sentencepiece/sentencepiece_conversion.ts";
import type { TokenizerClass } from "./transformers_class.ts";

/** A vocabulary as the classes take it. */
export interface Vocabulary {
  ids: ReadonlyMap<string, number>;
  merges: readonly (readonly [string, string])[];
}

/** Settings of tokenizer_config.json that the classes look at. */
export interface ClassSettings {
  legacy: boolean;
  /** null where the file says nothing. */
  add_prefix_space: boolean | null;
  unk_token: string | undefined;
}

/** A class with a form of its own. */
export interface ClassForm {
  /** Named tokens where the files name none. */
  tokens: Record<string, string>;
  parts(vocabulary: Vocabulary, settings: ClassSettings): ConvertedParts;
  /** It adds BOS where the files don't say. */
  adds_bos?: boolean;
  /** What stands around a text follows from `add_bos_token` alone, whatever tokenizer.json says. */
  ignores_post_processor?: boolean;
  /** It adds its named tokens once more, as plain control tokens. */
  plain_control_tokens?: boolean;
}

function bpe(
  { ids, merges }: Vocabulary,
  given: { unk_token?: string; fuse_unk: boolean; byte_fallback: boolean },
): ConvertedParts["model"] {
  return {
    type: "BPE",
    settings: {
      vocab: ids,
      merges,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      ignore_merges: false,
      ...given,
    },
  };
}

function metaspace(prepend_scheme: "always" | "first" | "never") {
  return { type: "Metaspace", replacement: "\u2581", prepend_scheme, split: false };
}

/** Cuts by the pattern and turns bytes into characters. */
function byteLevel(add_prefix_space: boolean, use_regex: boolean) {
  return { type: "ByteLevel", add_prefix_space, trim_offsets: true, use_regex };
}

/** How Qwen's tokenizers cut words; from 3.5 on, marks are parts of words. */
function qwenWords(letters: string): string {
  const letter = letters === "\\p{L}" ? letters : `[${letters}]`;
  return `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?${letter}+|\\p{N}` +
    `| ?[^\\s${letters}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
}

function qwen(letters: string): ClassForm {
  return {
    tokens: {
      unk_token: "<|endoftext|>",
      eos_token: "<|endoftext|>",
      pad_token: "<|endoftext|>",
    },
    parts: (vocabulary, { add_prefix_space }) => ({
      model: bpe(vocabulary, { fuse_unk: false, byte_fallback: false }),
      normalizer: { type: "NFC" },
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [
          {
            type: "Split",
            pattern: { Regex: qwenWords(letters) },
            behavior: "Isolated",
            invert: false,
          },
          byteLevel(add_prefix_space ?? false, false),
        ],
      },
      decoder: byteLevel(true, true),
    }),
  };
}

/** Byte-level BPE with the words of GPT-2. */
function byteLevelForm(
  tokens: Record<string, string>,
  { normalizer = null, digits = false }: { normalizer?: unknown; digits?: boolean },
): ClassForm {
  return {
    tokens,
    parts: (vocabulary, { add_prefix_space }) => {
      const bytes = byteLevel(add_prefix_space ?? false, true);
      return {
        model: bpe(vocabulary, { fuse_unk: false, byte_fallback: false }),
        normalizer,
        pre_tokenizer: digits
          ? {
            type: "Sequence",
            pretokenizers: [{ type: "Digits", individual_digits: true }, bytes],
          }
          : bytes,
        decoder: byteLevel(true, true),
      };
    },
  };
}

const END_OF_TEXT = {
  unk_token: "<|endoftext|>",
  bos_token: "<|endoftext|>",
  eos_token: "<|endoftext|>",
};

/** The classes; `TokenizersBackend` has no form of its own. */
export const CLASS_FORMS: Record<Exclude<TokenizerClass, "TokenizersBackend">, ClassForm> = {
  LlamaTokenizer: {
    tokens: { unk_token: "<unk>", bos_token: "<s>", eos_token: "</s>" },
    parts: (vocabulary, { legacy, add_prefix_space }) => {
      const adds = add_prefix_space ?? true;
      return {
        model: bpe(vocabulary, { fuse_unk: true, byte_fallback: true }),
        normalizer: null,
        pre_tokenizer: metaspace(!adds ? "never" : legacy ? "always" : "first"),
        decoder: {
          type: "Sequence",
          decoders: adds ? [...PIECE_DECODERS, STRIP_FIRST_SPACE] : PIECE_DECODERS,
        },
      };
    },
  },
  CodeLlamaTokenizer: {
    tokens: {
      unk_token: "<unk>",
      bos_token: "<s>",
      eos_token: "</s>",
      prefix_token: "\u2581<PRE>",
      middle_token: "\u2581<MID>",
      suffix_token: "\u2581<SUF>",
      eot_token: "\u2581<EOT>",
      fill_token: "<FILL_ME>",
    },
    adds_bos: true,
    parts: (vocabulary, { add_prefix_space, unk_token }) => ({
      model: bpe(vocabulary, { unk_token, fuse_unk: true, byte_fallback: true }),
      normalizer: null,
      pre_tokenizer: metaspace(add_prefix_space ?? true ? "first" : "never"),
      decoder: { type: "Sequence", decoders: [...PIECE_DECODERS, STRIP_FIRST_SPACE] },
    }),
  },
  GemmaTokenizer: {
    tokens: {
      unk_token: "<unk>",
      bos_token: "<bos>",
      eos_token: "<eos>",
      pad_token: "<pad>",
      mask_token: "<mask>",
    },
    parts: (vocabulary, { unk_token }) => ({
      model: bpe(vocabulary, { unk_token, fuse_unk: true, byte_fallback: true }),
      normalizer: { type: "Replace", pattern: { String: " " }, content: "\u2581" },
      pre_tokenizer: {
        type: "Split",
        pattern: { String: " " },
        behavior: "MergedWithPrevious",
        invert: false,
      },
      decoder: { type: "Sequence", decoders: PIECE_DECODERS },
    }),
  },
  GPT2Tokenizer: byteLevelForm(END_OF_TEXT, {}),
  GPTNeoXTokenizer: {
    ...byteLevelForm({ ...END_OF_TEXT, pad_token: "<|padding|>" }, { normalizer: { type: "NFC" } }),
    ignores_post_processor: true,
  },
  CohereTokenizer: byteLevelForm(
    {
      unk_token: "<UNK>",
      bos_token: "<BOS_TOKEN>",
      eos_token: "<|END_OF_TURN_TOKEN|>",
      pad_token: "<PAD>",
      cls_token: "<CLS>",
      sep_token: "<SEP>",
      mask_token: "<MASK_TOKEN>",
    },
    { normalizer: { type: "NFC" }, digits: true },
  ),
  Qwen2Tokenizer: { ...qwen("\\p{L}"), plain_control_tokens: true },
  Qwen3_5Tokenizer: qwen("\\p{L}\\p{M}"),
};
