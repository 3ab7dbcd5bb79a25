/**
 * The tokens of a sequence, as they come from the GPU's thread.
 *
 * @module
 */
import type { Piece } from "./messages.ts";

/** Pieces that came one after the other, as one. */
function joined(pieces: readonly Piece[]): Piece {
  const last = pieces[pieces.length - 1];
  if (pieces.length === 1) return last;
  const logprobs = pieces.flatMap(({ logprobs = [] }) => logprobs);
  return {
    ...last,
    ids: pieces.flatMap(({ ids }) => ids),
    ...(logprobs.length > 0 && { logprobs }),
  };
}

/** A sequence of a request: what has come of it and was not taken yet. */
export class Generation implements AsyncIterable<Piece> {
  #pieces: Piece[] = [];
  #wake = Promise.withResolvers<void>();
  #ended = false;

  /** @param end Called once: when it has ended by itself, or its client wants no more. */
  constructor(readonly end: (byItself: boolean) => void) {}

  /** Takes what was made. */
  push(piece: Piece): void {
    if (this.#ended) return;
    this.#pieces.push(piece);
    if (piece.finished !== undefined || piece.problem !== undefined) this.#close(true);
    this.#wake.resolve();
  }

  /** Ends it: its client wants no more. */
  cancel(): void {
    if (this.#ended) return;
    this.#close(false);
    this.#pieces = [];
    this.#wake.resolve();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Piece> {
    try {
      for (;;) {
        const pieces = this.#pieces;
        this.#pieces = [];
        // What a slow reader has waiting comes at once.
        if (pieces.length > 0) yield joined(pieces);
        if (this.#pieces.length > 0) continue;
        if (this.#ended) return;
        await this.#wake.promise;
        this.#wake = Promise.withResolvers();
      }
    } finally {
      this.cancel();
    }
  }

  #close(byItself: boolean): void {
    this.#ended = true;
    this.end(byItself);
  }
}
