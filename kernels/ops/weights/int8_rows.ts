/**
 * The 8-bit weights of LLM.int8() (Dettmers et al. 2022, https://arxiv.org/abs/2208.07339): whole numbers from -127 to
 * 127, and for each row a scale in f32. A value is q · scale. They come from files of bitsandbytes.
 *
 * The third tensor has the number of columns, by which a load finds the row that it is in.
 *
 * @module
 */
import { groupGrid } from "../../gpu/elementwise.ts";
import { type Binding, programFamily, writesScalars } from "../../gpu/program.ts";
import { boundPart } from "../../gpu/tensor.ts";
import { DIVIDED } from "../../wgsl/divide.ts";
import { fileValues, type RawDtype } from "../elements/cast.ts";
import { flagNotFinite, NAN, notFinite } from "../elements/not_finite.ts";
import { codesBinding, eightBitLoads } from "./eight_bit.ts";
import type { Plane, WeightKind } from "./kind.ts";

/** Threads of a workgroup, which encodes a row. */
const THREADS = 64;

/** The row's largest magnitude becomes 127; halves are rounded to even (`int8_vectorwise_quant`). */
const encode = programFamily("int8_rows_encode", ({ from }: { from: RawDtype }) => ({
  bindings: [
    { name: "words", dtype: "u32", access: "read" },
    ...writesScalars("u32", "codes"),
    ...writesScalars("f32", "scales"),
  ],
  // Rows of this piece, fours of values of a row, and where their codes and scales begin in what is bound.
  uniforms: { rows: "u32", fours: "u32", firstWord: "u32", first: "u32" },
  body: `${fileValues(from)}${DIVIDED}
var<workgroup> most: array<f32, ${THREADS}>;
var<workgroup> faulty: array<u32, ${THREADS}>;
@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = group.y * groups.x + group.x;
  if (row >= u.rows) { return; }
  var largest = vec4<f32>();
  var bad = vec4<bool>();
  for (var i = thread; i < u.fours; i += ${THREADS}u) {
    let x = file_values(row * u.fours + i);
    largest = max(largest, abs(x));
    bad |= ${notFinite("x")};
  }
  most[thread] = max(max(largest.x, largest.y), max(largest.z, largest.w));
  faulty[thread] = u32(any(bad));
  for (var half = ${THREADS / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) {
      most[thread] = max(most[thread], most[thread + half]);
      faulty[thread] |= faulty[thread + half];
    }
  }
  workgroupBarrier();
  let size = most[0];
  var factor = 0.0;
  if (size > 0.0) { factor = divided(127.0, size); }
  for (var i = thread; i < u.fours; i += ${THREADS}u) {
    let q = vec4<i32>(round(file_values(row * u.fours + i) * factor));
    codes[u.firstWord + row * u.fours + i] = pack4xI8(q);
  }
  if (thread == 0u) {
    let bits = bitcast<u32>(divided(size, 127.0));
    scales[u.first + row] = bitcast<f32>(select(bits, ${NAN}, faulty[0] != 0u));
  }
}`,
}));

/** The kind. */
export const INT8_ROWS: WeightKind = {
  name: "int8_rows",
  columnUnit: 4,

  encoder: {
    unit: (columns) => columns,
    workElements: () => 0,
    encode(gpu, [codes, scales], { words, from, first, count, values }) {
      const columns = values / scales.size, rows = count / columns;
      const c = boundPart(codes, { first: first / 4, count: count / 4 }, gpu.maxBinding);
      const s = boundPart(scales, { first: first / columns, count: rows }, gpu.maxBinding);
      const uniforms = { rows, fours: columns / 4, firstWord: c.first, first: s.first };
      gpu.run(encode({ from }), [words, c.tensor, s.tensor], uniforms, groupGrid(rows), {
        flops: 0,
        bytes: count * ((from === "F32" ? 4 : 2) + 1) + 4 * rows,
      });
    },
  },

  planes(columns): readonly Plane[] {
    return [
      { suffix: "", dtype: "u32", values: 4, elements: 1 },
      { suffix: ".scale", dtype: "f32", values: columns, elements: 1 },
      { suffix: ".columns", dtype: "u32", values: Infinity, elements: 4 },
    ];
  },

  writeTables(gpu, [codes, scales, table]) {
    gpu.write(table, Uint32Array.of(4 * codes.size / scales.size, 0, 0, 0));
  },

  flagNotFinite(gpu, [, scales], place) {
    flagNotFinite(gpu, { x: scales, ...place });
  },

  bindings(name, width): Binding[] {
    return [
      codesBinding(name, width),
      { name: `${name}_scale`, dtype: "f32", access: "read", scalar: true },
      { name: `${name}_columns`, dtype: "u32", access: "read", scalar: true },
    ];
  },

  ...eightBitLoads({
    values: 64,
    word: (name, width) => `bitcast<u32>(${name}_scale[i / (${name}_columns[0] / ${width}u)])`,
    rest: () => "0u",
    value: (word) => `bitcast<f32>(${word})`,
  }),
};
