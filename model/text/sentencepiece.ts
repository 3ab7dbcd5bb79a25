/**
 * SentencePiece tokenizers (Llama's `tokenizer.model`): encoded by the original C++ library compiled to
 * WebAssembly, decoded here as it does.
 *
 * @module
 */

import type { EventEmitter } from "node:events";
import process from "node:process";
import sentencepiece from "sentencepiece-js";
import { UserError } from "../../kernels/errors.ts";
import { fileError } from "../files/weights.ts";
import { decodePieces, type Piece, pieceByte } from "./pieces.ts";
import { joinText, splitSpecial } from "./special_tokens.ts";
import type { Tokenizer } from "./tokenizer.ts";

/**
 * What is used of the library's processor, which comes without types. Its `decodeIds` is not: it loses a
 * byte order mark (U+FEFF) that begins a text.
 */
interface Processor {
  load(path: string): Promise<void>;
  encodeIds(text: string): number[];
  processor: { status(): { ToString(): string; delete(): void } };
  sentencepiece: { FS: { unlink(path: string): void } };
}

/** `SentencePiece.Type` of sentencepiece_model.proto. */
const UNKNOWN = 2, CONTROL = 3, BYTE = 6;

/** The largest file taken: Llama 2's is 0.5 MB, the largest vocabularies in use about 5 MB. */
const MAX_BYTES = 100_000_000;

/** The parts of a SentencePiece model file that the library's bindings don't expose. */
interface ModelFile {
  /** By id. */
  pieces: Piece[];
  /** Ids of the control pieces. */
  controls: Map<string, number>;
  bosPiece: string;
  eosPiece: string;
  firstSpace: "kept" | "dropped" | "all dropped";
}

/** One field of a protocol buffer message: varints as numbers, sub-messages and strings as bytes. */
interface Field {
  number: number;
  value: number | Uint8Array;
}

/**
 * Walks the fields of a protocol buffer message (wire types 0, 1, 2 and 5).
 *
 * @throws {RangeError} Where the bytes end inside a field or are no protocol buffer.
 */
function* fields(bytes: Uint8Array): Generator<Field> {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1;; factor *= 128) {
      if (at >= bytes.length) throw new RangeError("ends inside a field");
      if (factor > 2 ** 63) throw new RangeError("has a number of more than 64 bits");
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  const take = (count: number) => {
    if (count > bytes.length - at) throw new RangeError("ends inside a field");
    at += count;
    return bytes.subarray(at - count, at);
  };
  while (at < bytes.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    switch (tag % 8) {
      case 0:
        yield { number, value: varint() };
        break;
      case 1:
        yield { number, value: take(8) };
        break;
      case 2:
        yield { number, value: take(varint()) };
        break;
      case 5:
        yield { number, value: take(4) };
        break;
      default:
        throw new RangeError(`has a field of unknown wire type ${tag % 8}`);
    }
  }
}

/** The fields of a message by number; of one given several times the last, as protocol buffers have it. */
function lastFields(bytes: Uint8Array): Map<number, number | Uint8Array> {
  return new Map([...fields(bytes)].map(({ number, value }) => [number, value]));
}

/**
 * Reads the pieces and what decoding needs. Field numbers are those of sentencepiece_model.proto:
 * ModelProto.pieces = 1, trainer_spec = 2 and normalizer_spec = 3, SentencePiece.piece = 1 and type = 3,
 * TrainerSpec.unk_surface = 44, bos_piece = 46 and eos_piece = 47, NormalizerSpec.add_dummy_prefix = 3
 * and remove_extra_whitespaces = 4.
 */
function readModelFile(bytes: Uint8Array): ModelFile {
  const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  const text = (value: number | Uint8Array | undefined, absent: string) =>
    value instanceof Uint8Array ? utf8.decode(value) : absent;
  const entries: { piece: string; type: number }[] = [];
  let trainer: Map<number, number | Uint8Array> | undefined;
  let normalizer: Map<number, number | Uint8Array> | undefined;
  for (const { number, value } of fields(bytes)) {
    if (typeof value === "number") continue;
    if (number === 1) {
      const field = lastFields(value);
      entries.push({ piece: text(field.get(1), ""), type: Number(field.get(3) ?? 1) });
    }
    if (number === 2) trainer = lastFields(value);
    if (number === 3) normalizer = lastFields(value);
  }
  if (entries.length === 0) throw new RangeError("holds no pieces");
  // A file cut between two pieces is still well-formed, but the settings come after the pieces.
  if (!trainer || !normalizer) throw new RangeError("ends before its settings");
  const unknown = text(trainer.get(44), " \u2047 ");
  const controls = new Map<string, number>();
  const pieces = entries.map(({ piece, type }, id): Piece => {
    if (type === CONTROL && piece !== "") controls.set(piece, id);
    if (type === CONTROL) return null;
    if (type === UNKNOWN) return unknown;
    return type === BYTE ? pieceByte(piece) ?? null : piece;
  });
  const addsSpace = normalizer.get(3) !== 0, dropsSpaces = normalizer.get(4) !== 0;
  return {
    pieces,
    controls,
    bosPiece: text(trainer.get(46), "<s>"),
    eosPiece: text(trainer.get(47), "</s>"),
    firstSpace: dropsSpaces ? "all dropped" : addsSpace ? "dropped" : "kept",
  };
}

/** A file's bytes. @throws UserError where it can't be read or is too large. */
function readFile(file: string): Uint8Array {
  const { size, isFile } = Deno.statSync(file);
  if (!isFile) throw new UserError(`cannot read ${file}: it is no file`);
  if (size > MAX_BYTES) {
    throw new UserError(`tokenizer "${file}" is ${size} bytes, expected at most 100 MB`);
  }
  return Deno.readFileSync(file);
}

/**
 * Starts the library on a model file. Emscripten's start-up code adds process-wide handlers for
 * uncaught errors, which would hide the program's own reports: they are taken off again.
 */
async function startProcessor(file: string): Promise<Processor> {
  const emitter: EventEmitter = process;
  const events = ["uncaughtException", "unhandledRejection"];
  const before = events.map((event) => new Set(emitter.listeners(event)));
  const processor = new sentencepiece.SentencePieceProcessor() as Processor;
  try {
    await processor.load(file);
  } finally {
    events.forEach((event, i) => {
      for (const listener of emitter.listeners(event)) {
        if (!before[i].has(listener)) {
          emitter.removeListener(event, listener as (...args: unknown[]) => void);
        }
      }
    });
  }
  // The library keeps its own copy in its in-memory file system, which is not needed any more.
  processor.sentencepiece.FS.unlink("sentencepiece.model");
  return processor;
}

/** Whether a file is of the kind that Llama 3 came with: on each line a token in base64 and its rank. */
function isTiktoken(bytes: Uint8Array): boolean {
  return /^[A-Za-z0-9+/]+=* \d+\r?\n/.test(new TextDecoder().decode(bytes.subarray(0, 1000)));
}

/**
 * Loads a SentencePiece tokenizer. Needs read permission for the file and nothing else.
 *
 * A text with control tokens is encoded part by part, each as a text of its own (SentencePiece puts a
 * space before its first word), as Meta's reference code encodes the turns of a chat.
 *
 * @throws {UserError} When the file is missing, truncated, of another format, or without BOS or EOS.
 */
export async function loadSentencePiece(file: string): Promise<Tokenizer> {
  let bytes: Uint8Array | undefined, model: ModelFile;
  try {
    bytes = readFile(file);
    model = readModelFile(bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw fileError(file, "read", error);
    if (bytes && isTiktoken(bytes)) {
      throw new UserError(
        `tokenizer "${file}" is in tiktoken's format, which is not read; ` +
          "expected a SentencePiece model, or the tokenizer.json that Hugging Face has for the model",
      );
    }
    throw new UserError(
      `tokenizer "${file}" ${error.message}: it is truncated or not a SentencePiece model`,
    );
  }
  const { pieces, controls, firstSpace } = model;
  const bos_id = controls.get(model.bosPiece), eos_id = controls.get(model.eosPiece);
  if (bos_id === undefined || eos_id === undefined) {
    const name = bos_id === undefined ? "beginning (BOS)" : "end (EOS)";
    throw new UserError(
      `tokenizer "${file}" has no control token for the ${name} of a sequence; expected <s> and </s>`,
    );
  }
  const processor = await startProcessor(file);
  const status = processor.processor.status();
  const message = status.ToString();
  status.delete();
  if (message !== "OK") {
    throw new UserError(
      `tokenizer "${file}" is no SentencePiece model that can be used: ${message}`,
    );
  }
  // A lone surrogate has no UTF-8 form: it would take the next character with it.
  const encode = (text: string) => processor.encodeIds(text.toWellFormed());
  const encodeParts = (parts: readonly (string | number)[]) =>
    joinText(parts).flatMap((part) => typeof part === "number" ? part : encode(part));
  return {
    vocab_size: pieces.length,
    bos_id,
    eos_id,
    prefix_ids: [bos_id],
    suffix_ids: [],
    named_tokens: new Map([["bos_token", model.bosPiece], ["eos_token", model.eosPiece]]),
    special_tokens: controls,
    encode,
    encodeSpecial: (text, isPlain) => encodeParts(splitSpecial(text, controls, isPlain)),
    encodeParts,
    decode: (ids) => decodePieces(ids, pieces, firstSpace),
  };
}
