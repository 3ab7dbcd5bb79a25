/**
 * SentencePiece tokenizers (Llama's `tokenizer.model`): encoded by the original C++ library compiled to
 * WebAssembly, decoded here as it does.
 *
 * @module
 */

import type { EventEmitter } from "node:events";
import process from "node:process";
import sentencepiece from "sentencepiece-js";
import { UserError } from "../../../../kernels/errors.ts";
import { decodePieces, type Piece, pieceByte, pieceBytes } from "../pieces.ts";
import { BYTE, CONTROL, readSentencePieceFile, UNKNOWN } from "./sentencepiece_file.ts";
import { textEncoder } from "../text_encoding.ts";
import { controlSection, splitter } from "../token_places.ts";
import { joinText, splitSpecial } from "../special_tokens.ts";
import type { EncodedSection, IsPlain, Tokenizer } from "../tokenizer.ts";

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
 * Loads a SentencePiece tokenizer. Needs read permission for the file and nothing else.
 *
 * A text with control tokens is encoded part by part, each as a text of its own (SentencePiece puts a
 * space before its first word), as Meta's reference code encodes the turns of a chat.
 *
 * @throws {UserError} When the file is missing, truncated, of another format, or without BOS or EOS.
 */
export async function loadSentencePiece(file: string): Promise<Tokenizer> {
  const model = readSentencePieceFile(file);
  const controls = new Map<string, number>();
  const pieces = model.pieces.map(({ piece, type }, id): Piece => {
    if ((type === CONTROL || type === UNKNOWN) && piece !== "") controls.set(piece, id);
    if (type === CONTROL) return null;
    if (type === UNKNOWN) return model.unk_surface;
    return type === BYTE ? pieceByte(piece) ?? null : piece;
  });
  const firstSpace = model.remove_extra_whitespaces
    ? "all dropped"
    : model.add_dummy_prefix
    ? "dropped"
    : "kept";
  const bos_id = controls.get(model.bos_piece), eos_id = controls.get(model.eos_piece);
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
  const encodeSpecial = (text: string, isPlain?: IsPlain) =>
    encodeParts(splitSpecial(text, controls, isPlain));
  const bytesOf = (id: number) => {
    const piece = pieces.at(id) ?? null, { type } = model.pieces[id];
    if (typeof piece === "number") return 1;
    return piece === null || type === UNKNOWN ? undefined : pieceBytes(piece);
  };
  const encodeSections = (text: string, isPlain?: IsPlain) => {
    let end = 0;
    return splitSpecial(text, controls, isPlain).map((part): EncodedSection => {
      const start = end;
      if (typeof part === "string") {
        end += part.length;
        const ids = encode(part), encodeUpTo = (at: number) => encode(part.slice(0, at));
        const split = splitter({ text: part, ids, bytesOf, encodeUpTo });
        return { start, end, ids, split: (at) => split(at - start) };
      }
      end += model.pieces[part].piece.length;
      return controlSection(part, start, end);
    });
  };
  const prefix = [bos_id];
  const named_tokens = new Map([["bos_token", model.bos_piece], ["eos_token", model.eos_piece]]);
  const unknown = model.pieces.at(Math.max(0, model.unk_id))?.piece;
  if (unknown) named_tokens.set("unk_token", unknown);
  return {
    vocab_size: pieces.length,
    base_vocab_size: pieces.length,
    bos_id,
    eos_id,
    prefix_ids: prefix,
    suffix_ids: [],
    add_bos: "auto",
    named_tokens,
    special_tokens: controls,
    token: (id) => model.pieces.at(id)?.piece,
    encode,
    encodeSpecial,
    encodeSections,
    encodeText: textEncoder({ bos_id, eos_id, prefix, suffix: [], encodeSpecial }),
    encodeParts,
    decode: (ids) => decodePieces(ids, pieces, firstSpace),
  };
}
