/**
 * Where in a text its tokens are.
 *
 * @module
 */

/** How many ids end before an offset or there, and how many begin before it: one more where a token holds both sides. */
export type Split = readonly [ended: number, begun: number];

/** A control token as a part of a text, white space that it takes included. */
export function controlSection(
  id: number,
  start: number,
  end: number,
): { start: number; end: number; ids: number[]; split: (at: number) => Split } {
  const split = (at: number): Split => at >= end ? [1, 1] : at <= start ? [0, 0] : [0, 1];
  return { start, end, ids: [id], split };
}

/** What is known of a text that was encoded as a whole. */
export interface EncodedText {
  text: string;
  ids: readonly number[];
  /** How many bytes of a text a token stands for; undefined where that is not known. */
  bytesOf(id: number): number | undefined;
  /** Ids of the text's beginning, up to an offset. */
  encodeUpTo(end: number): readonly number[];
}

/** Characters that are looked at for one where a token ends. */
const MOST_STEPS = 256;

const ENCODER = new TextEncoder();
const bytesIn = (text: string) => ENCODER.encode(text).length;

/** Where tokens end, in bytes of the text; undefined where they do not make it up as it is. */
function tokenEnds({ text, ids, bytesOf }: EncodedText): number[] | undefined {
  const ends: number[] = [];
  let end = 0;
  for (const id of ids) {
    const bytes = bytesOf(id);
    if (bytes === undefined) return undefined;
    ends.push(end += bytes);
  }
  // Many tokenizers put a space before a text.
  const added = end - bytesIn(text);
  return added === 0 || added === 1 ? ends.map((end) => end - added) : undefined;
}

/** Whether some ids begin with others. */
function beginsWith(ids: readonly number[], others: readonly number[]): boolean {
  return others.length <= ids.length && others.every((id, i) => id === ids[i]);
}

/**
 * The nearest offset from which on the text's beginning has the same ids alone as in the whole, in steps of 1 or −1;
 * the text's end or beginning where there is none near. The number of those ids.
 */
function nearSplit({ text, ids, encodeUpTo }: EncodedText, at: number, step: 1 | -1): number {
  for (let steps = 0, near = at; 0 < near && near < text.length; near += step) {
    const before = encodeUpTo(near);
    if (beginsWith(ids, before)) return before.length;
    if (++steps === MOST_STEPS) break;
  }
  return step === 1 ? ids.length : 0;
}

/** What tells where the tokens of a text are, for offsets in UTF-16 units. */
export function splitter(encoded: EncodedText): (at: number) => Split {
  const { text, ids } = encoded;
  let ends: number[] | undefined, known = false;
  return (at) => {
    if (at <= 0) return [0, 0];
    if (at >= text.length) return [ids.length, ids.length];
    if (!known) [ends, known] = [tokenEnds(encoded), true];
    if (ends === undefined) return [nearSplit(encoded, at, -1), nearSplit(encoded, at, 1)];
    const bytes = bytesIn(text.slice(0, at));
    const beyond = ends.findIndex((end) => end > bytes), ended = beyond < 0 ? ids.length : beyond;
    const straddles = ended < ids.length && (ends[ended - 1] ?? 0) < bytes;
    return [ended, straddles ? ended + 1 : ended];
  };
}
