/**
 * WGSL that adds up values of all threads of a workgroup (matvec/program.ts): within subgroups, or by halves.
 *
 * @module
 */
import type { MatvecLayout } from "./layout.ts";

type Adding = Pick<MatvecLayout, "threads" | "subgroup">;

/** WGSL of the number of partial sums that are left of a value. */
export function partialCount({ threads, subgroup }: Adding): string {
  return subgroup > 0 ? `(${threads - 1}u + size) / size` : "1u";
}

/** WGSL that leaves the sums of `values` in `array`, the i-th as partial sums in row `row(i)`. */
export function sumOverWorkgroup(
  array: string,
  values: readonly string[],
  row: (i: number) => string,
  { threads, subgroup }: Adding,
): string {
  const each = (line: (value: string, i: number) => string) => values.map(line).join("\n    ");
  if (subgroup > 0) {
    return `${each((value) => `let all_${value} = subgroupAdd(${value});`)}
  if (lane == 0u) {
    ${each((value, i) => `${array}[${row(i)}][thread / size] = all_${value};`)}
  }`;
  }
  return `${each((value, i) => `${array}[${row(i)}][thread] = ${value};`)}
  for (var stride = ${threads / 2}u; stride > 0u; stride /= 2u) {
    workgroupBarrier();
    if (thread < stride) {
    ${each((_, i) => `${array}[${row(i)}][thread] += ${array}[${row(i)}][thread + stride];`)}
    }
  }`;
}

/** WGSL of an array for partial sums of so many values, and of the function that adds up those of one. */
export function partialSums(array: string, values: number, { threads, subgroup }: Adding): string {
  const count = subgroup > 0 ? Math.ceil(threads / subgroup) : threads;
  return `
var<workgroup> ${array}: array<array<f32, ${count}>, ${values}>;
fn total_${array}(row: u32, count: u32) -> f32 {
  var sum = 0.0;
  for (var s = 0u; s < count; s++) { sum += ${array}[row][s]; }
  return sum;
}`;
}
