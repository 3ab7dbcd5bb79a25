/**
 * Samples that are read and tokenised when they are asked for.
 *
 * @module
 */
import type { SampleGroup } from "../prompt.ts";
import type { Row } from "./row.ts";
import type { SampleList, SamplesFingerprint } from "./sample_list.ts";
import type { StoredRows } from "./stored_rows.ts";

/** Bytes of rows that are looked at ahead at a time: a few hundredths of a second. */
const AHEAD_BYTES = 2 << 20;

/** What makes samples of a row. */
export interface RowEncoder {
  /** @throws {UserError} Where a row is none of the samples that are known. */
  check(row: Row): void;
  /** Its sample as ids, a group of one; undefined where it holds nothing to learn. */
  encode(row: Row): SampleGroup | undefined;
}

/** Groups of samples, one a row, which are tokenised when they are asked for. */
export class StreamedSamples implements SampleList, Disposable {
  readonly mostTokens: number;
  readonly contents: SamplesFingerprint;
  readonly #rows: StoredRows;
  readonly #encoder: RowEncoder;
  /** Rows that were looked at. */
  #checked: number;

  /**
   * @param checked So many first rows were looked at.
   * @param mostTokens No sample has more tokens.
   * @param contents What stands for the samples' ids.
   */
  constructor(
    rows: StoredRows,
    encoder: RowEncoder,
    { checked, mostTokens, contents }: {
      checked: number;
      mostTokens: number;
      contents: SamplesFingerprint;
    },
  ) {
    this.#rows = rows;
    this.#encoder = encoder;
    this.#checked = checked;
    this.mostTokens = mostTokens;
    this.contents = contents;
  }

  get length(): number {
    return this.#rows.length;
  }

  at(index: number): SampleGroup | undefined {
    if (index < 0 || index >= this.length) return undefined;
    return this.#encoder.encode(this.#rows.at(index));
  }

  *[Symbol.iterator](): Generator<SampleGroup, void> {
    for (let i = 0; i < this.length; i++) {
      const group = this.at(i);
      if (group !== undefined) yield group;
    }
  }

  lookAhead(): void {
    for (let bytes = 0; bytes < AHEAD_BYTES && this.#checked < this.length;) {
      const row = this.#rows.at(this.#checked++);
      this.#encoder.check(row);
      bytes += row.size;
    }
  }

  [Symbol.dispose](): void {
    this.#rows[Symbol.dispose]();
  }
}
