/**
 * UTF-8 byte by byte (RFC 3629): what may follow the bytes of a character so far. Grammars take any byte of the right kind
 * there, and tokens may be single bytes.
 *
 * @module
 */

/** Between characters, after a first byte that says how many follow, or after one whose next byte has less choice. */
export type Utf8State = "start" | "one" | "two" | "three" | "e0" | "ed" | "f0" | "f4";

/** The states within a character: the next bytes that it may have, and the state after them. */
const WITHIN: Readonly<Record<Exclude<Utf8State, "start">, readonly [number, number, Utf8State]>> =
  {
    one: [0x80, 0xbf, "start"],
    two: [0x80, 0xbf, "one"],
    three: [0x80, 0xbf, "two"],
    e0: [0xa0, 0xbf, "one"],
    ed: [0x80, 0x9f, "one"],
    f0: [0x90, 0xbf, "two"],
    f4: [0x80, 0x8f, "two"],
  };

/** The last first byte of each kind, and the state after it; undefined where there is none. */
const FIRST: readonly (readonly [number, Utf8State | undefined])[] = [
  [0x7f, "start"],
  [0xc1, undefined],
  [0xdf, "one"],
  [0xe0, "e0"],
  [0xec, "two"],
  [0xed, "ed"],
  [0xef, "two"],
  [0xf0, "f0"],
  [0xf3, "three"],
  [0xf4, "f4"],
];

/** All states. */
export const UTF8_STATES: readonly Utf8State[] = ["start", ...Object.keys(WITHIN) as Utf8State[]];

/** The state after more bytes; undefined where they can't follow. */
export function afterBytes(state: Utf8State, bytes: readonly number[]): Utf8State | undefined {
  let now: Utf8State | undefined = state;
  for (const byte of bytes) {
    if (now === undefined) return undefined;
    if (now === "start") now = FIRST.find(([last]) => byte <= last)?.[1];
    else {
      const [least, most, next]: readonly [number, number, Utf8State] = WITHIN[now];
      now = byte >= least && byte <= most ? next : undefined;
    }
  }
  return now;
}
