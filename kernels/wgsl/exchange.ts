/**
 * Sums of many values over lanes as WGSL: each lane ends with the sums of some of them, for half the work in every
 * further step (a reduce-scatter), where a butterfly would leave all sums in every lane.
 *
 * @module
 */

/** WGSL that declares which of these bits, powers of two, the number of a lane has: `lane_BIT`. */
export function declareLaneBits(lane: string, bits: readonly number[]): string {
  return bits.map((bit) => `\n  let lane_${bit} = (${lane} & ${bit}u) != 0u;`).join("");
}

/**
 * Halves the values that each lane has: lanes whose number has `bit` keep the later half, the others the earlier one,
 * added to what the lane with that bit flipped has of it.
 */
function exchange(values: readonly string[], bit: number, to: string) {
  const half = values.length / 2, names = Array.from({ length: half }, (_, i) => `${to}_${i}`);
  const lines = names.map((name, i) => {
    const [low, high] = [values[i], values[half + i]];
    return `  let ${name} = select(${low}, ${high}, lane_${bit}) +
    subgroupShuffleXor(select(${high}, ${low}, lane_${bit}), ${bit}u);`;
  });
  return { lines, names };
}

/**
 * Lines that do the same for each of these bits in turn, and the names of what is left. `to`: how names of what they
 * declare begin.
 */
export function exchanges(
  values: readonly string[],
  bits: readonly number[],
  to: string,
): { lines: string[]; names: string[] } {
  let names = [...values];
  const lines: string[] = [];
  for (const bit of bits) {
    const next = exchange(names, bit, `${to}_of${bit}`);
    lines.push(...next.lines);
    ({ names } = next);
  }
  return { lines, names };
}
