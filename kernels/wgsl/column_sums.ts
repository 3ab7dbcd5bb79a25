/**
 * Sums over the rows of a matrix, column by column, as WGSL: threads of a workgroup share a column, each with every so
 * many rows, and their sums are added up in the same order every time.
 *
 * @module
 */

/** How a program shares columns between threads, and how it reads and stores them. */
export interface ColumnSums {
  /** Neighbouring vectors of a row that a workgroup sums. */
  columns: number;
  /** Threads that share a column. */
  lanes: number;
  /** WGSL that adds what the row `row` has in the vector `column` to `sum`, a vec4<f32>. */
  add: string;
  /** WGSL that stores `sum`, that of all rows of `column`. */
  store: string;
}

/**
 * The entry point of a program that sums columns. Its uniforms have `rows`, the number of steps that the rows are
 * summed in, and `width`, the vectors of a row; a workgroup takes `columns` of these.
 */
export function columnSums({ columns, lanes, add, store }: ColumnSums): string {
  return `
var<workgroup> sums: array<array<vec4<f32>, ${columns}>, ${lanes}>;
@compute @workgroup_size(${columns * lanes})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let lane = thread / ${columns}u;
  let place = thread % ${columns}u;
  let column = group.x * ${columns}u + place;
  var sum = vec4<f32>();
  if (column < u.width) {
    for (var row = lane; row < u.rows; row += ${lanes}u) {
${add}
    }
  }
  sums[lane][place] = sum;
  workgroupBarrier();
  if (lane > 0u || column >= u.width) { return; }
  for (var other = 1u; other < ${lanes}u; other++) { sum += sums[other][place]; }
${store}
}`;
}
