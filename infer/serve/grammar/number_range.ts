/**
 * Numbers between bounds, as patterns of their decimal digits.
 *
 * Numbers have at most 15 digits in all. So many a double keeps: numbers that differ as texts differ as doubles, and their order
 * is that of the texts. A bound is its shortest text, which may have more digits.
 *
 * @module
 */
import { natural } from "./integer_range.ts";

/** A bound, and whether numbers may be equal to it. */
export interface Bound {
  readonly value: number;
  readonly excluded: boolean;
}

/** Digits of a number at most. */
const MOST_DIGITS = 15;
/** Digits before the point of a number without a bound. */
const OPEN_DIGITS = 9;

/** A decimal of at least 0: the digits before its point and those after it. */
interface Decimal {
  readonly whole: number;
  readonly fraction: string;
}

/** Where a fraction begins or ends: the digits of the bound that are left to compare with, and whether it is excluded. */
type Edge = { readonly digits: string; readonly excluded: boolean } | undefined;

/** The decimal of a number of at least 0; undefined where it has too many digits. */
function decimalOf(value: number): Decimal | undefined {
  const [, first, rest = "", exponent = "0"] =
    /^(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(`${value}`) ??
      [];
  if (first === undefined) return undefined;
  const shift = Number(exponent), digits = first + rest, point = first.length + shift;
  if (point > MOST_DIGITS || rest.length - shift > MOST_DIGITS) return undefined;
  const padded = digits.padStart(digits.length + Math.max(0, 1 - point), "0");
  const at = Math.max(1, point);
  const whole = Number(padded.slice(0, at).padEnd(at, "0"));
  return { whole, fraction: padded.slice(at).replace(/0+$/, "") };
}

const isZero = (digits: string) => /^0*$/.test(digits);

/** Whether a fraction may end here. */
function mayEnd(low: Edge, high: Edge): boolean {
  const isLow = low !== undefined && (!isZero(low.digits) || low.excluded);
  return !isLow && !(high !== undefined && isZero(high.digits) && high.excluded);
}

/** An edge after one of its digits. */
const after = (edge: NonNullable<Edge>) => ({ ...edge, digits: edge.digits.slice(1) });

/** One or more digits of a fraction between edges, as alternatives. @param room Digits at most. */
function moreDigits(low: Edge, high: Edge, room: number): string[] {
  if (room === 0) return [];
  const least = Number(low?.digits[0] ?? 0), most = Number(high ? high.digits[0] ?? 0 : 9);
  const all: string[] = [];
  const follow = (digit: number, low: Edge, high: Edge) => {
    const rest = moreDigits(low, high, room - 1);
    if (mayEnd(low, high)) all.push(`${digit}`);
    if (rest.length > 0) all.push(`${digit}(${rest.join("|")})`);
  };
  let first = least, last = most;
  if (least > most) return [];
  if (low === undefined && high !== undefined && isZero(high.digits)) {
    return high.excluded ? [] : [`0{1,${room}}`];
  }
  // What is above 0 at its end is any digits, of which one is not 0.
  const isOpen = low === undefined || (isZero(low.digits) && !low.excluded);
  if (!isOpen || (high !== undefined && least === most)) {
    follow(
      least,
      isOpen ? undefined : after(low),
      high !== undefined && least === most ? after(high) : undefined,
    );
    first++;
  }
  if (high !== undefined && first <= most) {
    follow(most, undefined, after(high));
    last--;
  }
  if (first <= last) {
    const head = first === last ? `${first}` : `[${first}-${last}]`;
    all.push(room > 1 ? `${head}[0-9]{0,${room - 1}}` : head);
  }
  return all;
}

/** Numbers of one whole part whose fractions lie between edges. */
function withFraction(whole: number, [low, high]: [Edge, Edge], room: number): string[] {
  const digits = moreDigits(low, high, room);
  return [
    ...(mayEnd(low, high) ? [`${whole}`] : []),
    ...(digits.length > 0 ? [`${whole}\\.(${digits.join("|")})`] : []),
  ];
}

/** Numbers of at least 0 between bounds. */
function positive(
  [low, isLowExcluded]: [Decimal, boolean],
  [high, isHighExcluded]: [Decimal, boolean],
  room: number,
): string[] {
  const from: Edge = { digits: low.fraction, excluded: isLowExcluded };
  const to: Edge = { digits: high.fraction, excluded: isHighExcluded };
  if (low.whole > high.whole) return [];
  if (low.whole === high.whole) return withFraction(low.whole, [from, to], room);
  const between = low.whole + 1 <= high.whole - 1 ? natural(low.whole + 1, high.whole - 1) : [];
  const fraction = room > 0 ? `(\\.[0-9]{1,${room}})?` : "";
  return [
    ...withFraction(low.whole, [from, undefined], room),
    ...between.map((digits) => digits + fraction),
    ...withFraction(high.whole, [undefined, to], room),
  ];
}

/**
 * A pattern of the numbers between bounds; undefined where a bound has too many digits, and empty where no number is
 * there.
 */
export function numberBetween(least: Bound, most: Bound): string | undefined {
  const bounds = [least, most].map(({ value, excluded }) => {
    const isFinite = Number.isFinite(value);
    return {
      value,
      excluded,
      isFinite,
      decimal: isFinite ? decimalOf(Math.abs(value)) : undefined,
    };
  });
  if (bounds.some(({ isFinite, decimal }) => isFinite && decimal === undefined)) return undefined;
  const known = bounds.flatMap(({ decimal }) => decimal ?? []);
  const isOpen = known.length < bounds.length;
  const digits = Math.max(1, ...known.map(({ whole }) => `${whole}`.length));
  const before = isOpen ? Math.min(MOST_DIGITS, Math.max(OPEN_DIGITS, digits + 1)) : digits;
  const room = MOST_DIGITS - before;
  if (known.some(({ fraction }) => fraction.length > room)) return undefined;
  const [low, high] = bounds,
    far: Decimal = { whole: 10 ** before - 1, fraction: "9".repeat(room) };
  const zero: Decimal = { whole: 0, fraction: "" };
  const negative = low.value < 0
    ? positive(
      high.value < 0 ? [high.decimal ?? zero, high.excluded] : [zero, true],
      [low.decimal ?? far, low.excluded],
      room,
    ).map((digits) => `-${digits}`)
    : [];
  const rest = high.value >= 0
    ? positive(
      low.value >= 0 ? [low.decimal ?? zero, low.excluded] : [zero, false],
      [high.decimal ?? far, high.excluded],
      room,
    )
    : [];
  return [...negative, ...rest].join("|");
}
