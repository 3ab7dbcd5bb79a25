/**
 * Data files that are large, made quickly.
 *
 * @module
 */

/** Rows of a block that is written over and over. */
export const BLOCK_ROWS = 2000;

/** A row that is like no other of its block. */
function row(i: number): Record<string, string> {
  const words = Array.from({ length: 5 + i % 120 }, (_, k) => `w${(i * 31 + k * 17) % 997}`);
  return { instruction: `Say ${i}.`, input: i % 3 === 0 ? `in ${i}` : "", output: words.join(" ") };
}

/** So many rows from the first on, as JSON Lines. */
export function lines(count: number): string {
  return Array.from({ length: count }, (_, i) => JSON.stringify(row(i % BLOCK_ROWS)) + "\n").join(
    "",
  );
}

/**
 * Writes a file of JSON Lines.
 *
 * @param bytes How large it is at least.
 * @param odd Text that lies in it after so many bytes, or a few more; at its end, where they are as many as all.
 * @returns Its rows without `odd`, and how many of them lie before it.
 */
export function writeLarge(
  path: string,
  bytes: number,
  odd: { text: string; after: number } = { text: "", after: bytes },
): { rows: number; before: number } {
  const block = new TextEncoder().encode(lines(BLOCK_ROWS));
  using file = Deno.openSync(path, { write: true, createNew: true });
  let rows = 0, before = -1;
  for (let size = 0;; size += block.length) {
    if (before < 0 && size >= odd.after) {
      file.writeSync(new TextEncoder().encode(odd.text));
      before = rows;
    }
    if (size >= bytes) return { rows, before };
    file.writeSync(block);
    rows += BLOCK_ROWS;
  }
}
