/**
 * Kernels with a workgroup for each row that go over the row twice: once for a sum over the row, once for the results.
 * On GPUs each thread keeps its vectors of the row in registers in between.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { repeat } from "../../wgsl/repeat.ts";
import { sumOfThreads } from "../../wgsl/reduce.ts";

/** Threads that share a row, and vectors of four that each keeps in registers (0: it reads them again). */
export interface RowShare {
  threads: number;
  perThread: number;
}

/** Vectors that fit a thread's registers. */
const MOST_PER_THREAD = 8;

/**
 * How a row of `width` elements is shared out. On a software driver barriers are expensive, eight threads
 * are one SIMD group, and a row that was read once is in the processor's cache.
 */
export function rowShare(
  { software, device }: Pick<Gpu, "software" | "device">,
  width: number,
): RowShare {
  if (software) return { threads: 8, perThread: 0 };
  const vectors = width / 4, most = Math.min(512, device.limits.maxComputeInvocationsPerWorkgroup);
  let threads = 32;
  while (threads < most && threads < vectors) threads *= 2;
  const perThread = Math.ceil(vectors / threads);
  return { threads, perThread: perThread > MOST_PER_THREAD ? 0 : perThread };
}

/** Split-K partial sums that are read before any is added, so that their loads are under way together. */
const SPLITS_AT_ONCE = 4;

/** WGSL of a program over rows; expressions and statements see `i`, a vector of the row, and `at`, of the tensor. */
export interface RowProgram {
  /** Vectors that both passes use: name and expression. */
  values: Readonly<Record<string, string>>;
  /** The first of the values has the split-K partial sums of `d` added to it: u.splits, u.splitStride vectors apart. */
  addSplits: boolean;
  /** Values that are to be read in another way the second time, where no registers keep them. */
  again?: Readonly<Record<string, string>>;
  /** Of the first pass; may add to `partial`. */
  first: string;
  /** Between the passes: `sum` is the sum of all `partial`. Absent where there is no second pass. */
  between?: string;
  second?: string;
}

/** The entry point, for one workgroup a row, and what it needs. The uniform `width` is in elements. */
export function rowMain({ threads, perThread }: RowShare, program: RowProgram): string {
  const { between } = program;
  const reduction = between === undefined ? "" : `
  let sum = sumOfThreads(thread, partial);
  ${between}`;
  return `${between === undefined ? "" : sumOfThreads(threads)}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let vectors = u.width / 4u;
  let row = group.x * vectors;
  var partial = 0.0;
${
    perThread === 0
      ? readTwice(threads, program, reduction)
      : keepInRegisters(threads, perThread, program, reduction)
  }
}`;
}

function readTwice(threads: number, program: RowProgram, reduction: string): string {
  const { values, addSplits, again, first, second } = program, [summed] = Object.keys(values);
  const pass = (body: string, from: Readonly<Record<string, string>>, splits: boolean) => `
  for (var i = thread; i < vectors; i += ${threads}u) {
    let at = row + i;
${Object.entries(from).map(([name, value]) => `    var ${name} = ${value};`).join("\n")}
    ${
    splits
      ? `for (var s = 0u; s < u.splits; s++) { ${summed} += load_d(s * u.splitStride + at); }`
      : ""
  }
    ${body}
  }`;
  const splitsAgain = addSplits && again?.[summed] === undefined;
  return pass(first, values, addSplits) + reduction +
    (second === undefined ? "" : pass(second, { ...values, ...again }, splitsAgain));
}

/** All loads come first, so that they are under way together. */
function keepInRegisters(
  threads: number,
  perThread: number,
  { values, addSplits, first, second }: RowProgram,
  reduction: string,
): string {
  const names = Object.keys(values),
    [summed] = names,
    ahead = Math.ceil(SPLITS_AT_ONCE / perThread);
  const own = (line: (k: number) => string) => repeat(perThread, line);
  // Beyond the row's end the last vector is read instead, which is cheaper than a branch.
  const load = (k: number) => `
  let i_${k} = min(thread + ${k * threads}u, vectors - 1u);
  {
    let i = i_${k};
    let at = row + i;
${names.map((name) => `    ${name}_${k} = ${values[name]};`).join("\n")}
  }`;
  const loadSplit = (k: number, a: number) =>
    `    let d${k}_${a} = load_d(min(s + ${a}u, u.splits - 1u) * u.splitStride + row + i_${k});`;
  const add = (k: number, a: number) => {
    const d = a === 0 ? `d${k}_0` : `select(vec4<f32>(), d${k}_${a}, s + ${a}u < u.splits)`;
    return `    ${summed}_${k} += ${d};`;
  };
  const addedSplits = `
  for (var s = 0u; s < u.splits; s += ${ahead}u) {
${own((k) => repeat(ahead, (a) => loadSplit(k, a)))}
${own((k) => repeat(ahead, (a) => add(k, a)))}
  }`;
  const pass = (body: string) =>
    own((k) => `
  if (thread + ${k * threads}u < vectors) {
    let i = i_${k};
    let at = row + i;
${names.map((name) => `    let ${name} = ${name}_${k};`).join("\n")}
    ${body}
  }`);
  return `${names.map((name) => own((k) => `  var ${name}_${k}: vec4<f32>;`)).join("\n")}
${own(load)}${addSplits ? addedSplits : ""}
${pass(first)}${reduction}
${second === undefined ? "" : pass(second)}`;
}
