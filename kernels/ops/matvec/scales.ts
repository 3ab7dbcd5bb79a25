/**
 * WGSL of how the threads of a product (matvec/program.ts) load the scales of codes and multiply by them.
 *
 * Where neighbouring loads of a row have one scale, as many lanes share their work: each has the scales of some of the
 * columns only, the lanes exchange their products until each has the sum of all of theirs for these columns, and one
 * multiplication is left of as many. Otherwise each lane multiplies its own products.
 *
 * @module
 */
import type { RowLoad } from "../weights/kind.ts";
import type { MatvecLayout } from "./layout.ts";

/** Lanes that share the scales of a row of so many loads; 1 where each has its own. */
export function sharingLanes(
  { scale }: RowLoad,
  { whole, outputs, subgroup }: MatvecLayout,
  vectors: number,
): number {
  if (scale === undefined || !whole || subgroup < outputs) return 1;
  const lanes = Math.min(scale.loads, outputs);
  return vectors % lanes === 0 ? lanes : 1;
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

/** The same for each of these bits in turn. */
function exchanges(values: readonly string[], bits: readonly number[], to: string) {
  let names = [...values];
  const lines: string[] = [];
  for (const bit of bits) {
    const next = exchange(names, bit, `${to}_of${bit}`);
    lines.push(...next.lines);
    ({ names } = next);
  }
  return { lines, names };
}

/** The sums of a group of columns in a product whose lanes share scales. */
export class SharedScales {
  /** Columns that a lane has the scales and the sums of. */
  readonly columns: number;
  /** Bits of a lane's number by which columns are told apart, those of lanes that share scales first. */
  readonly #bits: number[];
  readonly #sharing: number[];

  constructor(readonly lanes: number, readonly outputs: number) {
    this.columns = outputs / lanes;
    this.#bits = Array.from({ length: Math.log2(outputs) }, (_, e) => 2 ** e);
    this.#sharing = this.#bits.slice(0, Math.log2(lanes));
  }

  /** The first of the columns that a lane has after exchanges by these bits. */
  #firstColumn(bits: readonly number[]): string {
    return bits.map((bit, e) => `select(0u, ${this.outputs >> (e + 1)}u, lane_${bit})`).join(" + ");
  }

  /** Values that the other lines use; `sharedColumn` is the first of the lane's columns. */
  get declared(): string {
    return this.#bits.map((bit) => `\n  let lane_${bit} = (lane & ${bit}u) != 0u;`).join("") +
      `\n  let sharedColumn = ${this.#firstColumn(this.#sharing)};`;
  }

  /** Lines that add a row's products of all columns, times the scales of the lane's own, to its sums of these. */
  add(products: readonly string[], scales: readonly string[], sums: readonly string[]): string {
    const { lines, names } = exchanges(products, this.#sharing, products[0]);
    const added = sums.map((sum, j) => `  ${sum} += ${names[j]} * ${scales[j]};`);
    return [...lines, ...added].join("\n");
  }

  /** Lines that leave a row's sums in `partial`, from row `first` on, as partial sums of all columns. */
  addUp(sums: readonly string[], first: string): string {
    const rest = this.#bits.slice(this.#sharing.length), all = `all_${sums[0]}`;
    const { lines, names: [last] } = exchanges(sums, rest, sums[0]);
    const column = this.#firstColumn(this.#bits);
    return `${lines.join("\n")}
  var ${all} = ${last};
  for (var bit = ${this.outputs}u; bit < size; bit <<= 1u) { ${all} += subgroupShuffleXor(${all}, bit); }
  if (lane < ${this.outputs}u) { partial[${first} + ${column}][thread / size] = ${all}; }`;
  }
}
