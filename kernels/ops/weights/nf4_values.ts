/**
 * The numbers that nf4 codes stand for, and those of the 8-bit codes that its scales may be stored as. Both are
 * bitsandbytes'.
 *
 * @module
 */

/** What the sixteen codes of a block stand for, in units of its largest magnitude (QLoRA, appendix E). */
export const NF4_VALUES: Readonly<Float32Array> = Float32Array.of(
  -1,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1,
);

/** Between neighbours: a number gets the code that says how many of these it exceeds (`dQuantizeNF4`). */
export const NF4_MIDPOINTS: Readonly<Float32Array> = NF4_VALUES.slice(1).map((value, i) => {
  return (value + NF4_VALUES[i]) / 2;
});

/** Values of a block that share a scale. */
export const NF4_BLOCK = 64;

/** Scales that share one in double quantisation. */
export const NESTED_BLOCK = 256;

const { fround } = Math;

/**
 * What the 256 codes of a nested scale stand for, ascending: bitsandbytes' signed dynamic map. Seven ranges, each ten
 * times as wide as the one before, have the middles of 1, 2, 4 … 64 equal parts of 0.1 to 1, of either sign; 0 and 1
 * are added. Every step is rounded to f32 as PyTorch does it on x86, products and sums of a part's bounds at once.
 */
export const DYNAMIC_MAP: Readonly<Float32Array> = dynamicMap();

function dynamicMap(): Float32Array {
  const first = fround(0.1), values = [0, 1];
  for (let range = 0; range < 7; range++) {
    const parts = 2 ** range, step = fround(fround(1 - first) / parts);
    const bound = (i: number) => {
      return fround(i < Math.floor((parts + 1) / 2) ? first + step * i : 1 - step * (parts - i));
    };
    for (let i = 0; i < parts; i++) {
      const middle = fround(bound(i) + bound(i + 1)) / 2;
      const value = fround(fround(10 ** (range - 6)) * middle);
      values.push(value, -value);
    }
  }
  return Float32Array.from(values).sort();
}
