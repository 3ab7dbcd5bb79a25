/**
 * Rotary position embedding: pairs of elements within a head of D elements are rotated at position p by p times their
 * frequency (frequencies.ts), i and i + D/2 in Hugging Face's convention (rotate_half):
 * y_i = x_i cos − x_{i+D/2} sin, y_{i+D/2} = x_{i+D/2} cos + x_i sin. Where only the first elements of a head are
 * rotated, or neighbours are the pairs, {@linkcode Rotary} says so.
 *
 * Shapes: x `[T, ≥ heads·D]` f32 or f16, its first heads in place; positions `[T]` u32. D is a multiple of 8. Backward
 * is the same rotation by the opposite angle, which attention's gradients do themselves where they {@linkcode fuses}.
 * Source: Su et al., "RoFormer", 2021.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";
import { type RotaryPairs, rotate, rotateBack } from "../../wgsl/rotate.ts";
import { isWhole, type Rotary } from "./rotary.ts";

/** How rows are rotated. */
export interface RowRotation {
  /** As frequencies.ts makes it `[positions, width]` f32. */
  table: Tensor;
  /** The row of the table for each row `[T]` u32. */
  positions: Tensor;
  rotary: Rotary;
}

/**
 * Whether programs that rotate two vectors, half a head apart, can do it: the pairs of all of the head, or neighbours.
 * Other rotations are launches of their own.
 */
export function fuses({ rotary }: Pick<RowRotation, "rotary">, headDim: number): boolean {
  return rotary.pairs === "neighbours" || isWhole(rotary, headDim);
}

/** What programs differ in. */
interface RopeVariant {
  x: Dtype;
  pairs: RotaryPairs;
  /** Whether vectors of all of a head are handled. */
  whole: boolean;
  back: boolean;
}

/** Two vectors at once, half of what is rotated of a head apart. */
const program = programFamily(
  "rope",
  ({ x, pairs, whole, back }: RopeVariant) => {
    const pair = (back ? rotateBack : rotate)(
      { first: "a", second: "b", cos: "c", sin: "s" },
      pairs,
    );
    return {
      bindings: [
        { name: "x", dtype: x, access: "write" },
        { name: "table", dtype: "f32", access: "read" },
        { name: "positions", dtype: "u32", access: "read", scalar: true },
      ],
      // `half` is half the vectors that are handled of a head, `size` all of a head's, `stride` those from row to row.
      uniforms: {
        vectors: "u32",
        heads: "u32",
        half: "u32",
        stride: "u32",
        ...whole ? {} : { size: "u32" } as const,
      },
      body: elementMain(`
  let head = i / u.half;
  let lane = i % u.half;
  let row = positions[head / u.heads] * 2u * u.half;
  let c = load_table(row + lane);
  let s = load_table(row + u.half + lane);
  let at = head / u.heads * u.stride + head % u.heads * ${whole ? "2u * u.half" : "u.size"} + lane;
  let a = load_x(at);
  let b = load_x(at + u.half);
  store_x(at, ${pair.first});
  store_x(at + u.half, ${pair.second});`),
    };
  },
);

/** One head a thread, which alone writes its elements: the halves of what is rotated of it may begin within a vector. */
const elementProgram = programFamily(
  "rope_elements",
  ({ x, back }: { x: Dtype; back: boolean }) => {
    const point = {
      first: "a",
      second: "b",
      cos: "table[row + n]",
      sin: "table[row + u.pairs + n]",
    };
    const pair = (back ? rotateBack : rotate)(point, "halves");
    return {
      bindings: [
        { name: "x", dtype: x, access: "write" },
        { name: "table", dtype: "f32", access: "read", scalar: true },
        { name: "positions", dtype: "u32", access: "read", scalar: true },
      ],
      // `size` is a head's vectors, `stride` those from row to row, `pairs` those of its elements that are rotated.
      uniforms: { vectors: "u32", heads: "u32", size: "u32", stride: "u32", pairs: "u32" },
      body: `
fn put(at: u32, element: u32, value: f32) {
  var vector = load_x(at + element / 4u);
  vector[element % 4u] = value;
  store_x(at + element / 4u, vector);
}
${
        elementMain(`
  let row = positions[i / u.heads] * 2u * u.pairs;
  let at = i / u.heads * u.stride + i % u.heads * u.size;
  for (var n = 0u; n < u.pairs; n++) {
    let m = n + u.pairs;
    let a = load_x(at + n / 4u)[n % 4u];
    let b = load_x(at + m / 4u)[m % 4u];
    put(at, n, ${pair.first});
    put(at, m, ${pair.second});
  }`)
      }`,
    };
  },
);

/** Rotates the first `heads` heads of `rows` rows of x in place, or with `back` by the opposite angles. */
export function rope(
  gpu: Gpu,
  { x, rotation: { table, positions, rotary }, rows, heads, headDim, back = false }: {
    x: Tensor;
    rotation: RowRotation;
    rows: number;
    heads: number;
    headDim: number;
    back?: boolean;
  },
): void {
  const { dims, pairs } = rotary, stride = x.rowSize / 4, tensors = [x, table, positions];
  const cost = {
    flops: 3 * rows * heads * dims,
    bytes: rows * (2 * heads * headDim * bytesOf(x.dtype) + 4 * table.rowSize),
  };
  const fused = fuses({ rotary }, headDim);
  if (!fused && dims % 8 !== 0) {
    const vectors = rows * heads,
      uniforms = { vectors, heads, size: headDim / 4, stride, pairs: dims / 2 };
    gpu.run(elementProgram({ x: x.dtype, back }), tensors, uniforms, elementGrid(vectors), cost);
    return;
  }
  const half = (fused ? headDim : dims) / 8, vectors = rows * heads * half;
  const uniforms = { vectors, heads, half, stride, ...fused ? {} : { size: headDim / 4 } };
  const variant = { x: x.dtype, pairs, whole: fused, back };
  gpu.run(program(variant), tensors, uniforms, elementGrid(vectors), cost);
}
