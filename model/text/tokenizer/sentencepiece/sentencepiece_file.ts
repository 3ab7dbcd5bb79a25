/**
 * SentencePiece's model files (`tokenizer.model`): a protocol buffer with the pieces and the settings that
 * they were trained with.
 *
 * @module
 */
import { UserError } from "../../../../kernels/errors.ts";
import { readBytes } from "../../../files/whole_file.ts";

/** `SentencePiece.Type` of sentencepiece_model.proto. */
export const UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, BYTE = 6;

/** The largest file taken: Llama 2's is 0.5 MB, the largest vocabularies in use about 5 MB. */
const MAX_BYTES = 100_000_000;

/** An entry of the vocabulary. */
export interface SentencePiece {
  piece: string;
  /** Logarithm of its probability (Unigram), or minus the rank of its merge (BPE). */
  score: number;
  type: number;
}

/** What a model file says, named as in sentencepiece_model.proto. */
export interface SentencePieceFile {
  /** By id. */
  pieces: SentencePiece[];
  model_type: "unigram" | "bpe" | "word" | "char";
  byte_fallback: boolean;
  /** Ids below 0 say that there is none. */
  unk_id: number;
  bos_id: number;
  eos_id: number;
  unk_piece: string;
  bos_piece: string;
  eos_piece: string;
  /** What the unknown token decodes to. */
  unk_surface: string;
  /** Empty where characters are left as they are. */
  precompiled_charsmap: Uint8Array;
  add_dummy_prefix: boolean;
  remove_extra_whitespaces: boolean;
}

/**
 * Told of a field of a protocol buffer message: its number, and where its bytes are, or the value of a varint. Files have
 * tens of thousands of messages, so that none of it is an object.
 */
type Visit = (number: number, begin: number, end: number, varint: number | undefined) => void;

/**
 * Walks the fields of a protocol buffer message (wire types 0, 1, 2 and 5) that lies from `at` to `end`.
 *
 * @throws {RangeError} Where the bytes end inside a field or are no protocol buffer.
 */
function walk(bytes: Uint8Array, at: number, end: number, visit: Visit): void {
  const varint = () => {
    let value = 0;
    for (let factor = 1;; factor *= 128) {
      if (at >= end) throw new RangeError("ends inside a field");
      if (factor > 2 ** 63) throw new RangeError("has a number of more than 64 bits");
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  const take = (number: number, count: number) => {
    if (count > end - at) throw new RangeError("ends inside a field");
    at += count;
    visit(number, at - count, at, undefined);
  };
  while (at < end) {
    const tag = varint(), number = Math.floor(tag / 8);
    switch (tag % 8) {
      case 0: {
        const value = varint();
        visit(number, at, at, value);
        break;
      }
      case 1:
        take(number, 8);
        break;
      case 2:
        take(number, varint());
        break;
      case 5:
        take(number, 4);
        break;
      default:
        throw new RangeError(`has a field of unknown wire type ${tag % 8}`);
    }
  }
}

const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });
/** Bytes that are decoded one by one, where all are ASCII: a call of the decoder takes longer. */
const SHORT_TEXT = 32;

function textOf(bytes: Uint8Array, begin: number, end: number): string {
  let text = "";
  for (let at = begin; at < end; at++) {
    if (bytes[at] >= 128 || end - begin > SHORT_TEXT) {
      return UTF8.decode(bytes.subarray(begin, end));
    }
    text += String.fromCharCode(bytes[at]);
  }
  return text;
}

/** An int32; negative ones are written as 64 bits. */
function integerOf(varint: number): number {
  return varint >= 2 ** 63 ? varint - 2 ** 64 : varint;
}

/** The fields of a message by number; of one given several times the last, as protocol buffers have it. */
class Message {
  readonly #fields = new Map<number, number | Uint8Array>();

  constructor(bytes: Uint8Array, begin: number, end: number) {
    walk(bytes, begin, end, (number, begin, end, varint) => {
      this.#fields.set(number, varint ?? bytes.subarray(begin, end));
    });
  }

  bytes(number: number): Uint8Array {
    const value = this.#fields.get(number);
    return value instanceof Uint8Array ? value : new Uint8Array();
  }

  text(number: number, absent: string): string {
    const value = this.#fields.get(number);
    return value instanceof Uint8Array ? UTF8.decode(value) : absent;
  }

  integer(number: number, absent: number): number {
    const value = this.#fields.get(number);
    return typeof value === "number" ? integerOf(value) : absent;
  }

  flag(number: number, absent: boolean): boolean {
    return this.integer(number, Number(absent)) !== 0;
  }
}

/** Reads entries of the vocabulary: SentencePiece.piece = 1, score = 2 and type = 3. */
function pieceReader(bytes: Uint8Array): (begin: number, end: number) => SentencePiece {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let entry: SentencePiece;
  const visit: Visit = (number, begin, end, varint) => {
    // Of a field given several times the last counts; one of another type than its number's is as if absent.
    if (number === 1) entry.piece = varint === undefined ? textOf(bytes, begin, end) : "";
    else if (number === 2) entry.score = end - begin === 4 ? view.getFloat32(begin, true) : 0;
    else if (number === 3) entry.type = varint === undefined ? 1 : integerOf(varint);
  };
  return (begin, end) => {
    entry = { piece: "", score: 0, type: 1 };
    walk(bytes, begin, end, visit);
    return entry;
  };
}

/** `TrainerSpec.ModelType`, by number. */
const MODEL_TYPES = ["", "unigram", "bpe", "word", "char"] as const;

/**
 * Reads a model file's bytes. Field numbers are those of sentencepiece_model.proto: ModelProto.pieces = 1,
 * trainer_spec = 2 and normalizer_spec = 3.
 *
 * @throws {RangeError} saying what is wrong with them.
 */
function parse(bytes: Uint8Array): SentencePieceFile {
  const pieces: SentencePiece[] = [], readPiece = pieceReader(bytes);
  const settings = new Map<number, Message>();
  walk(bytes, 0, bytes.length, (number, begin, end, varint) => {
    if (varint !== undefined) return;
    if (number === 1) pieces.push(readPiece(begin, end));
    else if (number === 2 || number === 3) settings.set(number, new Message(bytes, begin, end));
  });
  const trainer = settings.get(2), normalizer = settings.get(3);
  if (pieces.length === 0) throw new RangeError("holds no pieces");
  // A file cut between two pieces is still well-formed, but the settings come after the pieces.
  if (!trainer || !normalizer) throw new RangeError("ends before its settings");
  const type = trainer.integer(3, 1), model_type = MODEL_TYPES[type];
  if (!model_type) throw new RangeError(`has a model of unknown type ${type}`);
  return {
    pieces,
    model_type,
    byte_fallback: trainer.flag(35, false),
    unk_id: trainer.integer(40, 0),
    bos_id: trainer.integer(41, 1),
    eos_id: trainer.integer(42, 2),
    unk_surface: trainer.text(44, " \u2047 "),
    unk_piece: trainer.text(45, "<unk>"),
    bos_piece: trainer.text(46, "<s>"),
    eos_piece: trainer.text(47, "</s>"),
    precompiled_charsmap: normalizer.bytes(2),
    add_dummy_prefix: normalizer.flag(3, true),
    remove_extra_whitespaces: normalizer.flag(4, true),
  };
}

/** What a file is that is no SentencePiece model, where its beginning tells. */
function otherKind(bytes: Uint8Array): string | undefined {
  const start = new TextDecoder().decode(bytes.subarray(0, 1000));
  // Llama 3 came with such a file: on each line a token in base64 and its rank.
  if (/^[A-Za-z0-9+/]+=* \d+\r?\n/.test(start)) {
    return "is in tiktoken's format, which is not read; " +
      "expected a SentencePiece model, or the tokenizer.json that Hugging Face has for the model";
  }
  return undefined;
}

/** @throws {UserError} where the file is missing, truncated or of another format. */
export function readSentencePieceFile(file: string): SentencePieceFile {
  const bytes = readBytes(file, { what: "a tokenizer", maxBytes: MAX_BYTES });
  try {
    return parse(bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const says = otherKind(bytes) ??
      `${error.message}: it is truncated or not a SentencePiece model`;
    throw new UserError(`tokenizer "${file}" ${says}`);
  }
}
