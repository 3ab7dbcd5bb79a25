/**
 * SentencePiece tokenizers (Llama's `tokenizer.model`), encoded and decoded by the original C++
 * library compiled to WebAssembly.
 *
 * @module
 */

import type { EventEmitter } from "node:events";
import { join } from "node:path";
import process from "node:process";
import sentencepiece from "sentencepiece-js";
import { UserError } from "../kernels/errors.ts";
import { fileError } from "./weights.ts";

/** Text to token ids and back. */
export interface Tokenizer {
  /** Number of ids; every id `encode` returns is below it. */
  readonly vocab_size: number;
  /** Id of the beginning-of-sequence control token. */
  readonly bos_id: number;
  /** Id of the end-of-sequence control token. */
  readonly eos_id: number;
  /** Ids of `text`, without BOS and EOS. Control tokens written out in the text stay plain text. */
  encode(text: string): number[];
  /** Text of `ids`; control tokens (BOS, EOS, padding) and ids outside the vocabulary add nothing. */
  decode(ids: readonly number[]): string;
}

/** What is used of the library's processor, which comes without types. */
interface Processor {
  load(path: string): Promise<void>;
  encodeIds(text: string): number[];
  decodeIds(ids: number[]): string;
  processor: { status(): { ToString(): string; delete(): void } };
  sentencepiece: { FS: { unlink(path: string): void } };
}

/** `SentencePiece.Type` of sentencepiece_model.proto. */
const CONTROL = 3;

/** The parts of a SentencePiece model file that the library's bindings don't expose. */
interface ModelFile {
  /** Type of every piece, by id. */
  types: Uint8Array;
  bos_id: number | undefined;
  eos_id: number | undefined;
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

/**
 * Reads the piece types and the control tokens' ids. Field numbers are those of
 * sentencepiece_model.proto: ModelProto.pieces = 1, trainer_spec = 2 and normalizer_spec = 3,
 * SentencePiece.piece = 1 and type = 3, TrainerSpec.bos_piece = 46 and eos_piece = 47.
 */
function readModelFile(bytes: Uint8Array): ModelFile {
  const utf8 = new TextDecoder();
  const types: number[] = [];
  const controls = new Map<string, number>();
  const seen = new Set<number>();
  let bosPiece = "<s>", eosPiece = "</s>";
  for (const { number, value } of fields(bytes)) {
    if (typeof value === "number") continue;
    seen.add(number);
    if (number === 1) {
      let piece = "", type = 1;
      for (const field of fields(value)) {
        if (field.number === 1 && typeof field.value !== "number") piece = utf8.decode(field.value);
        if (field.number === 3 && typeof field.value === "number") type = field.value;
      }
      if (type === CONTROL) controls.set(piece, types.length);
      types.push(type);
    } else if (number === 2) {
      for (const field of fields(value)) {
        if (typeof field.value === "number") continue;
        if (field.number === 46) bosPiece = utf8.decode(field.value);
        if (field.number === 47) eosPiece = utf8.decode(field.value);
      }
    }
  }
  if (types.length === 0) throw new RangeError("holds no pieces");
  // A file cut between two pieces is still well-formed, but the settings come after the pieces.
  if (!seen.has(2) || !seen.has(3)) throw new RangeError("ends before its settings");
  return {
    types: Uint8Array.from(types),
    bos_id: controls.get(bosPiece),
    eos_id: controls.get(eosPiece),
  };
}

/** The file `path` means: itself, or the `tokenizer.model` inside when it is a folder. */
function tokenizerFile(path: string): string {
  const isFile = (file: string) => {
    try {
      return Deno.statSync(file).isFile;
    } catch {
      return false;
    }
  };
  let info: Deno.FileInfo;
  try {
    info = Deno.statSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw fileError(path, "read", error);
    throw new UserError(
      `tokenizer "${path}" does not exist; expected a tokenizer.model file or a folder with one`,
    );
  }
  if (!info.isDirectory) return path;
  const file = join(path, "tokenizer.model");
  if (isFile(file)) return file;
  const other = isFile(join(path, "tokenizer.json"))
    ? " (its tokenizer.json is of another kind, which is not read)"
    : "";
  throw new UserError(
    `folder "${path}" holds no tokenizer.model${other}; name one with --tokenizer`,
  );
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

/**
 * Loads a SentencePiece tokenizer.
 *
 * Needs read permission for the file and nothing else.
 *
 * @param path A `tokenizer.model` file, or a folder that holds one.
 * @throws {UserError} When the file is missing, truncated, of another format, or without BOS or EOS.
 */
export async function loadTokenizer(path: string): Promise<Tokenizer> {
  const file = tokenizerFile(path);
  let model: ModelFile;
  try {
    model = readModelFile(Deno.readFileSync(file));
  } catch (error) {
    if (!(error instanceof RangeError)) throw fileError(file, "read", error);
    throw new UserError(
      `tokenizer "${file}" ${error.message}: it is truncated or not a SentencePiece model`,
    );
  }
  const { types, bos_id, eos_id } = model;
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
  return {
    vocab_size: types.length,
    bos_id,
    eos_id,
    // A lone surrogate has no UTF-8 form: it would take the next character with it.
    encode: (text) => processor.encodeIds(text.toWellFormed()),
    decode: (ids) => processor.decodeIds(ids.filter((id) => id in types && types[id] !== CONTROL)),
  };
}

/**
 * Refuses a tokenizer whose ids don't all have a row in the model's embedding. The opposite, rows
 * that no id uses, is common (vocabularies are padded) and fine.
 *
 * @param files What to call the two in the message.
 * @throws {UserError} Naming both numbers.
 */
export function vocabularyCheck(
  tokenizer: Tokenizer,
  vocab_size: number,
  files: { tokenizer: string; model: string },
): void {
  if (tokenizer.vocab_size <= vocab_size) return;
  throw new UserError(
    `tokenizer "${files.tokenizer}" has ${tokenizer.vocab_size} ids but model "${files.model}" has ` +
      `a vocab_size of ${vocab_size}; expected the tokenizer the model was trained with`,
  );
}
