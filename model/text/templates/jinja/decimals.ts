/**
 * Floats in decimal, rounded exactly.
 *
 * @module
 */
import { floorDivide } from "./integers.ts";

/** Python's `round(value, digits)`, half to even, exact in decimal. */
export function roundTo(value: bigint | number, digits: number): bigint | number {
  if (typeof value === "bigint") {
    if (digits >= 0) return value;
    const unit = 10n ** BigInt(-digits);
    const below = floorDivide(value, unit) * unit, twice = 2n * (value - below);
    const up = twice > unit || (twice === unit && (below / unit) % 2n !== 0n);
    return up ? below + unit : below;
  }
  if (!Number.isFinite(value) || digits > 22) return value;
  if (digits < 0) {
    const unit = 10 ** -digits, quotient = value / unit, floor = Math.floor(quotient);
    const up = quotient - floor > 0.5 || (quotient - floor === 0.5 && floor % 2 !== 0);
    return (up ? floor + 1 : floor) * unit;
  }
  return Number(fixed(value, digits));
}

/** A float with so many decimals, rounded from its exact value, half to even; `toFixed` takes half up. */
export function fixed(value: number, digits: number): string {
  if (Math.abs(value) >= 2 ** 53) {
    const sign = value < 0 ? "-" : "";
    return `${sign}${BigInt(Math.abs(value))}${digits > 0 ? `.${"0".repeat(digits)}` : ""}`;
  }
  // A float is a whole number over a power of two, so that all is exact in integers.
  const negative = value < 0 || Object.is(value, -0);
  let numerator = Math.abs(value), shift = 0n;
  while (!Number.isInteger(numerator)) {
    numerator *= 2;
    shift++;
  }
  const scaled = BigInt(numerator) * 10n ** BigInt(digits), unit = 1n << shift;
  const floor = scaled / unit, twice = 2n * (scaled % unit);
  const rounded = twice > unit || (twice === unit && floor % 2n === 1n) ? floor + 1n : floor;
  const text = rounded.toString().padStart(digits + 1, "0");
  const whole = text.slice(0, text.length - digits);
  return `${negative ? "-" : ""}${whole}${digits > 0 ? `.${text.slice(-digits)}` : ""}`;
}
