/**
 * Makes tokenizer.json files for tests: from a SentencePiece model, as Hugging Face's converter does, and
 * from the data of llama3-tokenizer-js.
 */
import { join } from "node:path";
import type { Llama3Tokenizer } from "llama3-tokenizer-js";

/** A tokenizer.json, as far as tests change it. */
export interface TokenizerJson {
  added_tokens: Record<string, unknown>[];
  normalizer: unknown;
  pre_tokenizer: unknown;
  decoder: unknown;
  post_processor?: unknown;
  model: Record<string, unknown> & { vocab: Record<string, number>; merges: unknown[] };
}

/** Pieces of a SentencePiece model (protocol buffer fields: 1 the text, 2 the score, 3 the type). */
function readPieces(bytes: Uint8Array): { text: string; score: number; type: number }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 0;; shift += 7) {
      value += (bytes[at] & 127) * 2 ** shift;
      if (bytes[at++] < 128) return value;
    }
  };
  const pieces = [];
  // Pieces (field 1, wire type 2) come first.
  while (bytes[at] === 0x0a) {
    at++;
    const length = varint(), end = at + length;
    const piece = { text: "", score: 0, type: 1 };
    while (at < end) {
      const tag = varint();
      if (tag === 0x0a) {
        const size = varint();
        piece.text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(
          bytes.subarray(at, at + size),
        );
        at += size;
      } else if (tag === 0x15) {
        piece.score = view.getFloat32(at, true);
        at += 4;
      } else if (tag === 0x18) piece.type = varint();
      else throw new Error(`unexpected field ${tag}`);
    }
    pieces.push(piece);
  }
  return pieces;
}

/** A special token of tokenizer.json. */
export function special(content: string, id: number): Record<string, unknown> {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return { id, content, ...flags, special: true };
}

/** Puts a token before every text, as the published files do. */
export function beginsWith(token: string, id: number): Record<string, unknown> {
  return {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}

/**
 * A SentencePiece BPE model as tokenizer.json: every way to make a piece of two is a merge, better scores
 * first; spaces and bytes as Llama 2's tokenizer.json has them.
 */
export function fromSentencePiece(file: string): TokenizerJson {
  const pieces = readPieces(Deno.readFileSync(file));
  const NORMAL = 1, UNKNOWN = 2, CONTROL = 3;
  const vocab = Object.fromEntries(pieces.map(({ text }, id) => [text, id]));
  const scores = new Map(
    pieces.filter(({ type }) => type === NORMAL).map(({ text, score }) => [text, score]),
  );
  const merges: { pair: [string, string]; score: number }[] = [];
  for (const [text, score] of scores) {
    const characters = [...text];
    for (let cut = 1; cut < characters.length; cut++) {
      const left = characters.slice(0, cut).join(""), right = characters.slice(cut).join("");
      if (scores.has(left) && scores.has(right)) merges.push({ pair: [left, right], score });
    }
  }
  merges.sort((a, b) => b.score - a.score);
  return {
    added_tokens: pieces.flatMap(({ text, type }, id) =>
      type === CONTROL || type === UNKNOWN ? [special(text, id)] : []
    ),
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    post_processor: beginsWith("<s>", 1),
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: "<unk>",
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      vocab,
      merges: merges.map(({ pair }) => pair.join(" ")),
    },
  };
}

/** Llama 3's words. */
const LLAMA3_WORDS =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** Llama 3's tokenizer.json; ids from 128,000 on are its special tokens. */
export function fromLlama3({ vocabById, merges }: Llama3Tokenizer): TokenizerJson {
  const first = vocabById.indexOf("<|begin_of_text|>");
  return {
    added_tokens: vocabById.slice(first).map((token, i) => special(token, first + i)),
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: LLAMA3_WORDS }, behavior: "Isolated", invert: false },
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    post_processor: beginsWith("<|begin_of_text|>", first),
    model: {
      type: "BPE",
      unk_token: null,
      byte_fallback: false,
      ignore_merges: true,
      vocab: Object.fromEntries(vocabById.slice(0, first).map((token, id) => [token, id])),
      merges: [...merges].sort((a, b) => a[1] - b[1]).map(([pair]) => pair),
    },
  };
}

/** Writes tokenizer.json, and what else a model's folder says of its tokens, into a new folder. */
export function writeTokenizer(
  folder: string,
  json: unknown,
  files: Record<string, unknown> = {},
): string {
  Deno.mkdirSync(folder, { recursive: true });
  for (const [name, value] of Object.entries({ "tokenizer.json": json, ...files })) {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    Deno.writeTextFileSync(join(folder, name), text);
  }
  return folder;
}
