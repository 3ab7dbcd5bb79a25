/**
 * Values to NF4 (nf4.ts), as bitsandbytes' CUDA kernels do it: `kQuantizeBlockwise` of values, and again, in blocks of
 * 256 and by the dynamic map, of the blocks' largest magnitudes less their mean.
 *
 * @module
 */
import { groupGrid } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, readsScalars, writesScalars } from "../../gpu/program.ts";
import { boundPart, type Tensor } from "../../gpu/tensor.ts";
import { DIVIDED } from "../../wgsl/divide.ts";
import { maximum, repeat } from "../../wgsl/repeat.ts";
import { fileEights, type RawDtype } from "../elements/cast.ts";
import { NAN } from "../elements/not_finite.ts";
import type { EncodedPiece } from "./kind.ts";
import { DYNAMIC_MAP, NESTED_BLOCK, NF4_BLOCK, NF4_MIDPOINTS } from "./nf4_values.ts";

const BLOCK = NF4_BLOCK, GROUP = NESTED_BLOCK;
/** Loads of a block. */
const EIGHTS = BLOCK / 8;
/** Words of the scales of {@linkcode NESTED_BLOCK} blocks. */
export const GROUP_WORDS = GROUP / 4 + 2;

/** Numbers of working memory beside those of blocks: their mean, and the dynamic map. */
export const WORK_BESIDE = 1 + DYNAMIC_MAP.length;

/** Threads of a workgroup that encodes, each a block. */
const THREADS = 64;

/** Which of so many midpoints is compared with next, by what was found before, the last of it first. */
function chosen(midpoints: readonly number[], found: readonly string[]): string {
  if (midpoints.length === 1) return `vec4<f32>(${midpoints[0]})`;
  const [bit, ...before] = found;
  const [below, above] = [0, 1].map((odd) =>
    chosen(midpoints.filter((_, i) => i % 2 === odd), before)
  );
  return `select(${below}, ${above}, ${bit})`;
}

/** WGSL lines that return how many of the midpoints each of four numbers `x` is above, by halving. */
function search(): string {
  const found: string[] = [], lines: string[] = [];
  for (let step = 8; step >= 1; step /= 2) {
    const midpoints = [...NF4_MIDPOINTS].filter((_, i) => i % (2 * step) === step - 1);
    lines.push(`  let above${step} = x > ${chosen(midpoints, found)};`);
    found.unshift(`above${step}`);
  }
  const bits = [8, 4, 2, 1].map((n) => `select(vec4<u32>(), vec4<u32>(${n}u), above${n})`);
  return [...lines, `  return ${bits.join(" | ")};`].join("\n");
}

const blocks = programFamily("nf4_encode", ({ from }: { from: RawDtype }) => ({
  bindings: [
    { name: "words", dtype: "u32", access: "read" },
    ...writesScalars("u32", "codes"),
    ...writesScalars("f32", "absmax"),
  ],
  // Blocks and values of this piece, and where its codes and its largest magnitudes begin in what is bound.
  uniforms: { blocks: "u32", count: "u32", firstWord: "u32", first: "u32" },
  body: `${fileEights(from)}${DIVIDED}
fn codes_of(x: vec4<f32>) -> vec4<u32> {
${search()}
}
fn word_of(x: Eight, inverse: f32) -> u32 {
  let low = codes_of(eight_low(x) * inverse);
  let high = codes_of(eight_high(x) * inverse);
  return low.y | (low.x << 4u) | (low.w << 8u) | (low.z << 12u) |
    (high.y << 16u) | (high.x << 20u) | (high.w << 24u) | (high.z << 28u);
}
@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let block = (group.y * groups.x + group.x) * ${THREADS}u + thread;
  if (block >= u.blocks) { return; }
  let start = block * ${EIGHTS}u;
  let to = u.firstWord + start;
  // Past the end there are zeros.
  let inside = min(u.count - block * ${BLOCK}u, ${BLOCK}u);
${
    repeat(EIGHTS, (i) =>
      `  let x${i} = eight_within(file_eight(start + ${i}u), max(inside, ${8 * i}u) - ${8 * i}u);`)
  }
  let most = ${maximum(EIGHTS, (i) => `eight_magnitudes(x${i})`)};
  let largest = magnitude(max(max(most.x, most.y), max(most.z, most.w)));
  let infinite = (bitcast<u32>(largest) & 0x7f800000u) == 0x7f800000u;
  absmax[u.first + block] = bitcast<f32>(select(bitcast<u32>(largest), ${NAN}, infinite));
  var inverse = 0.0;
  if (largest > 0.0) { inverse = divided(1.0, largest); }
  // What a block of zeros is divided by is no number, which is above no midpoint.
  let mask = select(0xffffffffu, 0u, largest == 0.0);
${
    repeat(EIGHTS, (i) =>
      `  if (inside > ${8 * i}u) { codes[to + ${i}u] = word_of(x${i}, inverse) & mask; }`)
  }
  // Past the end codes are 0.
  if (inside % 8u == 4u) { codes[to + inside / 8u] &= 0xffffu; }
}`,
}));

/** Writes codes of a piece's values, and each block's largest magnitude to `absmax` f32. */
export function encodeBlocks(
  gpu: Gpu,
  { words, from, first, count }: EncodedPiece,
  codes: Tensor,
  absmax: Tensor,
): void {
  const number = Math.ceil(count / BLOCK);
  const codeWords = { first: first / 8, count: Math.ceil(count / 8) };
  const c = boundPart(codes, codeWords, gpu.maxBinding);
  const most = boundPart(absmax, { first: first / BLOCK, count: number }, gpu.maxBinding);
  gpu.run(
    blocks({ from }),
    [words, c.tensor, most.tensor],
    { blocks: number, count, firstWord: c.first, first: most.first },
    groupGrid(Math.ceil(number / THREADS)),
    { flops: 0, bytes: count * ((from === "F32" ? 4 : 2) + 0.5) + 4 * number },
  );
}

/** Threads that add. */
const ADDING = 256;

/** Sums of two numbers each: what rounding a sum loses is kept, so that the order of summing does not matter. */
const mean = programFamily("nf4_mean", () => ({
  bindings: writesScalars("f32", "absmax"),
  uniforms: { blocks: "u32" },
  body: `${DIVIDED}
var<workgroup> sums: array<vec2<f32>, ${ADDING}>;
fn plus(sum: vec2<f32>, x: vec2<f32>) -> vec2<f32> {
  let s = sum.x + x.x;
  let part = s - sum.x;
  let lost = (sum.x - (s - part)) + (x.x - part);
  return vec2<f32>(s, sum.y + x.y + lost);
}
@compute @workgroup_size(${ADDING})
fn main(@builtin(local_invocation_index) thread: u32) {
  var sum = vec2<f32>();
  for (var i = thread; i < u.blocks; i += ${ADDING}u) { sum = plus(sum, vec2<f32>(absmax[i], 0.0)); }
  sums[thread] = sum;
  for (var half = ${ADDING / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) { sums[thread] = plus(sums[thread], sums[thread + half]); }
  }
  if (thread == 0u) {
    absmax[u.blocks] = divided(sums[0].x + sums[0].y, f32(u.blocks));
  }
}`,
}));

/** Threads of a workgroup, which has the blocks of a group: a software driver's barriers are expensive. */
const scaleThreads = ({ software }: Gpu) => software ? 8 : GROUP;

const scales = programFamily("nf4_scales", ({ threads }: { threads: number }) => ({
  bindings: [...readsScalars("f32", "absmax"), ...writesScalars("u32", "scales")],
  uniforms: { blocks: "u32" },
  body: `${DIVIDED}
var<workgroup> largest: array<f32, ${threads}>;
var<workgroup> codes: array<u32, ${GROUP}>;
fn map(code: u32) -> f32 { return absmax[u.blocks + 1u + code]; }
// The nearest number of the map; of two as near the even one.
fn nearest(x: f32) -> u32 {
  var at = 0u;
  for (var step = 128u; step > 0u; step /= 2u) {
    if (at + step < 256u && map(at + step) < x) { at += step; }
  }
  let low = map(at);
  let high = map(min(at + 1u, 255u));
  let middle = (low + high) * 0.5;
  return select(at, min(at + 1u, 255u), x > middle || (x == middle && at % 2u == 1u));
}
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let group = id.y * grid.x + id.x;
  if (group * ${GROUP}u >= u.blocks) { return; }
  let first = group * ${GROUP}u;
  let inside = min(u.blocks - first, ${GROUP}u);
  let offset = absmax[u.blocks];
  var size = 0.0;
  for (var i = thread; i < inside; i += ${threads}u) { size = max(size, abs(absmax[first + i] - offset)); }
  largest[thread] = size;
  for (var half = ${threads / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) { largest[thread] = max(largest[thread], largest[thread + half]); }
  }
  workgroupBarrier();
  let most = largest[0];
  var inverse = 0.0;
  if (most > 0.0) { inverse = divided(1.0, most); }
  for (var i = thread; i < ${GROUP}u; i += ${threads}u) {
    var code = 0u;
    if (i < inside) { code = nearest((absmax[first + i] - offset) * inverse); }
    codes[i] = code;
  }
  workgroupBarrier();
  let at = group * ${GROUP_WORDS}u;
  for (var i = thread; i < ${GROUP / 4}u; i += ${threads}u) {
    let c = i * 4u;
    scales[at + i] = codes[c] | (codes[c + 1u] << 8u) | (codes[c + 2u] << 16u) | (codes[c + 3u] << 24u);
  }
  if (thread == 0u) {
    scales[at + ${GROUP / 4}u] = bitcast<u32>(most);
    scales[at + ${GROUP / 4 + 1}u] = bitcast<u32>(offset);
  }
}`,
}));

/**
 * Quantises the largest magnitudes of a matrix's blocks.
 *
 * @param matrix.work They, f32, and room for {@linkcode WORK_BESIDE} more numbers.
 */
export function quantizeScales(
  gpu: Gpu,
  { work, scales: y, values }: {
    work: Tensor;
    scales: Tensor;
    values: number;
  },
): void {
  const number = Math.ceil(values / BLOCK);
  gpu.write(work, DYNAMIC_MAP.slice(), number + 1);
  gpu.run(mean({}), [work], { blocks: number }, [1], { flops: number, bytes: 4 * number });
  const groups = Math.ceil(number / GROUP);
  gpu.run(
    scales({ threads: scaleThreads(gpu) }),
    [work, y],
    { blocks: number },
    groupGrid(groups),
    {
      flops: 0,
      bytes: 5 * number,
    },
  );
}
