/**
 * Matrices of which several files hold a part each, read as if they were one, with the rows of q and k
 * brought from Meta's order into Hugging Face's.
 *
 * @module
 */

/** One part of a matrix: where its rows begin, which lie one after the other. */
export interface Part {
  readonly file: { read(position: number, target: Uint8Array): Promise<void> };
  readonly position: number;
}

/** How the parts make the whole. */
export interface Layout {
  /** Rows of one part; every part has as many. */
  rows: number;
  /** Bytes of one row of one part. */
  rowBytes: number;
  /** `rows`: the parts lie below each other. `columns`: beside each other. */
  join: "rows" | "columns";
  /**
   * Rows of one head where the rows of each head have to be permuted, else 0. Meta rotates features 2i
   * and 2i + 1 as a pair, Hugging Face i and i + d/2: row i + j·d/2 of a head here is its row 2i + j there.
   */
  headRows: number;
}

/** What a read takes to bring rows into their places; one read at a time uses one. */
const SCRATCH_BYTES = 4 * 2 ** 20;

/** Memory for reads, used again: making a new array for each costs more than the copy. */
export class Scratch {
  readonly #idle: Uint8Array[] = [];

  /** @param bytes Most that one read gets. */
  constructor(readonly bytes = SCRATCH_BYTES) {}

  take(bytes: number): Uint8Array {
    const fits = this.#idle.findIndex((memory) => memory.length >= bytes);
    if (fits >= 0) return this.#idle.splice(fits, 1)[0];
    this.#idle.pop(); // too small: it makes room
    return new Uint8Array(bytes);
  }

  give(memory: Uint8Array): void {
    this.#idle.push(memory);
  }
}

/** A matrix made of the parts that several files hold. */
export class JoinedMatrix {
  readonly bytes: number;
  readonly #parts: readonly Part[];
  readonly #layout: Layout;
  readonly #scratch: Scratch;

  constructor(parts: readonly Part[], layout: Layout, scratch: Scratch) {
    this.bytes = parts.length * layout.rows * layout.rowBytes;
    this.#parts = parts;
    this.#layout = layout;
    this.#scratch = scratch;
  }

  /**
   * Fills `target` with the whole's bytes from byte `begin` on. Several calls may be under way at once.
   *
   * @throws RangeError for bytes that it doesn't have.
   */
  async read(begin: number, target: Uint8Array): Promise<void> {
    const end = begin + target.length;
    if (!(begin >= 0 && end <= this.bytes)) {
      throw new RangeError(`${this.bytes} bytes, not ${target.length} from byte ${begin} on`);
    }
    for (let at = begin; at < end;) at += await this.#readSome(at, target.subarray(at - begin));
  }

  /** Fills the first bytes of `target`, some of them at least; returns how many. */
  #readSome(at: number, target: Uint8Array): Promise<number> {
    const { join, headRows, rows, rowBytes } = this.#layout;
    if (join === "columns" && this.#parts.length > 1) return this.#readColumns(at, target);
    if (headRows > 0) return this.#readHeads(at, target);
    return this.#copy(at, rows * rowBytes, target);
  }

  /** Reads from byte `at` of the parts laid end to end, up to the end of a run of so many bytes. */
  async #copy(at: number, runBytes: number, target: Uint8Array): Promise<number> {
    const { rows, rowBytes } = this.#layout, partBytes = rows * rowBytes;
    const { file, position } = this.#parts[Math.floor(at / partBytes)];
    const count = Math.min(target.length, runBytes - at % runBytes);
    await file.read(position + at % partBytes, target.subarray(0, count));
    return count;
  }

  /** Rows whose parts stand side by side: a band of rows from each part, interleaved. */
  async #readColumns(at: number, target: Uint8Array): Promise<number> {
    const { rows, rowBytes } = this.#layout, parts = this.#parts;
    const wholeRow = rowBytes * parts.length, first = Math.floor(at / wholeRow);
    if (wholeRow > this.#scratch.bytes) {
      const part = Math.floor(at % wholeRow / rowBytes);
      return this.#copy((part * rows + first) * rowBytes + at % rowBytes, rowBytes, target);
    }
    const last = Math.min(
      Math.ceil((at + target.length) / wholeRow),
      first + Math.floor(this.#scratch.bytes / wholeRow),
    );
    const bandBytes = (last - first) * rowBytes;
    // Where a read fails others may still be filling this memory: then it is not given back.
    const memory = this.#scratch.take(bandBytes * parts.length);
    await Promise.all(parts.map(({ file, position }, i) => {
      return file.read(
        position + first * rowBytes,
        memory.subarray(i * bandBytes, (i + 1) * bandBytes),
      );
    }));
    for (let row = first; row < last; row++) {
      for (let part = 0; part < parts.length; part++) {
        const from = part * bandBytes + (row - first) * rowBytes;
        const to = row * wholeRow + part * rowBytes - at;
        place(memory.subarray(from, from + rowBytes), to, target);
      }
    }
    this.#scratch.give(memory);
    return Math.min(target.length, last * wholeRow - at);
  }

  /** Heads with their rows permuted: whole heads of a part at a time. */
  async #readHeads(at: number, target: Uint8Array): Promise<number> {
    const { rows, rowBytes, headRows } = this.#layout, headBytes = headRows * rowBytes;
    if (headBytes > this.#scratch.bytes) {
      const row = metaRow(Math.floor(at / rowBytes), headRows);
      return this.#copy(row * rowBytes + at % rowBytes, rowBytes, target);
    }
    const partBytes = rows * rowBytes, part = Math.floor(at / partBytes);
    const first = Math.floor(at / headBytes) * headRows;
    const last = Math.min(
      Math.ceil((at + target.length) / headBytes) * headRows,
      first + Math.floor(this.#scratch.bytes / headBytes) * headRows,
      (part + 1) * rows,
    );
    const bytes = (last - first) * rowBytes, memory = this.#scratch.take(bytes);
    const { file, position } = this.#parts[part];
    await file.read(position + (first - part * rows) * rowBytes, memory.subarray(0, bytes));
    for (let row = first; row < last; row++) {
      const from = (metaRow(row, headRows) - first) * rowBytes;
      place(memory.subarray(from, from + rowBytes), row * rowBytes - at, target);
    }
    this.#scratch.give(memory);
    return Math.min(target.length, last * rowBytes - at);
  }
}

/** Which of Meta's rows is this row of Hugging Face's. */
function metaRow(row: number, headRows: number): number {
  const inHead = row % headRows, half = headRows / 2;
  return row - inHead + 2 * (inHead % half) + Math.floor(inHead / half);
}

/** Copies what of `source` falls into `target` when it begins at byte `to` of it (or before it). */
function place(source: Uint8Array, to: number, target: Uint8Array): void {
  const begin = Math.max(0, -to), end = Math.min(source.length, target.length - to);
  if (begin < end) target.set(source.subarray(begin, end), to + begin);
}
