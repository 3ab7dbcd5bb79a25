/**
 * Which row of a step each slot has. Steps compute rows up to the last that is live, so live slots have the first rows,
 * wherever their keys and values lie.
 *
 * @module
 */

/** Slots and rows, each slot with one row of its own. */
export class BatchRows {
  /** The row of each slot, and the slot of each row. */
  readonly #rows: number[];
  readonly #slots: number[];

  constructor(count: number) {
    this.#rows = Array.from({ length: count }, (_, i) => i);
    this.#slots = [...this.#rows];
  }

  rowOf(slot: number): number {
    return this.#rows[slot];
  }

  slotOf(row: number): number {
    return this.#slots[row];
  }

  /** Gives a slot a row, and its row to the slot that had that one. @returns whether anything changed. */
  give(slot: number, row: number): boolean {
    const other = this.#slots[row], before = this.#rows[slot];
    if (other === slot) return false;
    this.#rows[slot] = row;
    this.#slots[row] = slot;
    this.#rows[other] = before;
    this.#slots[before] = other;
    return true;
  }
}
