/**
 * Integers between bounds, as patterns of their digits.
 *
 * @module
 */

/** Digits of an integer that has no bound. */
const MOST_DIGITS = 15;

/** Digits from one to another, as a class. */
const digits = (from: number | string, to: number | string) =>
  `${from}` === `${to}` ? `${from}` : `[${from}-${to}]`;

const anyDigits = (count: number) => count === 0 ? "" : `[0-9]{${count}}`;

/** Numbers of equally many digits from one to another, as alternatives. */
function sameLength(from: string, to: string): string[] {
  if (from === "") return [""];
  const [a, b] = [from[0], to[0]], rest = from.length - 1;
  const join = (head: string, tails: string[]) => tails.map((tail) => head + tail);
  if (a === b) return join(digits(a, a), sameLength(from.slice(1), to.slice(1)));
  const nines = "9".repeat(rest), zeros = "0".repeat(rest);
  const low = from.slice(1) === zeros ? Number(a) : Number(a) + 1;
  const high = to.slice(1) === nines ? Number(b) : Number(b) - 1;
  return [
    ...(low > Number(a) ? join(digits(a, a), sameLength(from.slice(1), nines)) : []),
    ...(low <= high ? [digits(low, high) + anyDigits(rest)] : []),
    ...(high < Number(b) ? join(digits(b, b), sameLength(zeros, to.slice(1))) : []),
  ];
}

/** Integers of at least 0 from one to another, as alternatives. */
export function natural(from: number, to: number): string[] {
  const [low, high] = [`${from}`, `${to}`], all: string[] = [];
  for (let length = low.length; length <= high.length; length++) {
    const first = length === low.length ? low : `1${"0".repeat(length - 1)}`;
    all.push(...sameLength(first, length === high.length ? high : "9".repeat(length)));
  }
  return all;
}

/** A pattern of the integers from one to another, both included; infinite ones have up to 15 digits. Empty where there is none. */
export function integerBetween(least: number, most: number): string {
  const largest = 10 ** MOST_DIGITS - 1;
  const from = Math.max(least, -largest), to = Math.min(most, largest);
  if (from > to) return "";
  const negative = from < 0
    ? natural(Math.max(1, -Math.min(to, -1)), -from).map((digits) => `-${digits}`)
    : [];
  return [...negative, ...(to >= 0 ? natural(Math.max(0, from), to) : [])].join("|");
}
