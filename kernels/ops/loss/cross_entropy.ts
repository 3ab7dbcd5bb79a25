/**
 * Softmax cross entropy of one chunk of rows of a larger set of S supervised rows.
 *
 * Shapes: logits `[R, Vp]` f32, where Vp is the vocabulary rounded up to a multiple of 4 and columns
 * from `vocab` on are padding; targets `[S]` u32 below `vocab`, weights and nll `[S]` f32. With
 * s = firstRow + r: nll[s] = logsumexp(logits[r]) − logits[r, targets[s]]. Backward overwrites logits by
 * (softmax − onehot) · weights[s] · scale, with the loss scale from gradScaler[0] (loss_scale.ts), and padding by 0.
 * With a soft cap the logits first go through it (softcap.ts), and backward's are its input's gradients.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, readsScalars, writes } from "../../gpu/program.ts";
import { repeat } from "../../wgsl/repeat.ts";
import { corrected, weightOf } from "../../wgsl/online_softmax.ts";
import { maxOfThreads, sumOfThreads } from "../../wgsl/reduce.ts";
import { declareSoftcap, softcapOf, softcapUniform } from "../../wgsl/softcap.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Threads of a row, and vectors that each loads before it uses the first, so that loads overlap. */
const shareOn = ({ software, device }: Gpu) =>
  software
    ? { threads: 8, ahead: 1 }
    : { threads: Math.min(1024, device.limits.maxComputeInvocationsPerWorkgroup), ahead: 4 };

const program = programFamily(
  "cross_entropy",
  ({ backward, softcap, threads, ahead }: {
    backward: boolean;
    softcap: boolean;
    threads: number;
    ahead: number;
  }) => {
    const added = `dot(${weightOf("l", "most", "exp")}, vec4<f32>(real))`;
    const difference = "exp(v - largest) * factor - hit";
    const gradient = softcap ? `softcap_slope(v) * (${difference})` : difference;
    const grown = corrected("partial", weightOf("before", "most", "exp"), added);
    /** Statements for each vector `i` of a row, `v` being its logits; beyond the row's end v is of its last vector. */
    const pass = (body: string) => `
  for (var first = thread; first < vectors; first += ${threads * ahead}u) {
${
      repeat(ahead, (k) =>
        `    let v${k} = load_logits(row + min(first + ${k * threads}u, vectors - 1u));`)
    }
${
      repeat(ahead, (k) =>
        `    {
      let i = first + ${k * threads}u;
      let v = ${softcapOf(`v${k}`, softcap)};
      ${body}
    }`)
    }
  }`;
    return {
      bindings: [
        ...backward ? writes("f32", "logits") : reads("f32", "logits"),
        ...readsScalars("u32", "targets"),
        { name: "nll", dtype: "f32", access: "write", scalar: true },
        ...backward ? readsScalars("f32", "weights", "gradScaler") : [],
      ],
      uniforms: { width: "u32", vocab: "u32", firstRow: "u32", ...softcapUniform(softcap) },
      // One pass keeps each thread's maximum and its sum of exponentials relative to that maximum.
      body: `${maxOfThreads(threads)}${sumOfThreads(threads)}${declareSoftcap(softcap, "vec4<f32>")}
const LANES = vec4<u32>(0u, 1u, 2u, 3u);
const LOWEST = -3.4e38;
var<workgroup> labelLogit: f32;

@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let vectors = u.width / 4u;
  let row = group.x * vectors;
  let s = u.firstRow + group.x;
  let label = targets[s];
  // Before the first barrier, because backward overwrites it.
  if (thread == 0u) { labelLogit = ${
        softcapOf("load_logits(row + label / 4u)", softcap)
      }[label % 4u]; }
  var most = LOWEST;
  var partial = 0.0;
${
        pass(`let real = i * 4u + LANES < vec4<u32>(u.vocab);
      let l = select(vec4<f32>(LOWEST), v, real);
      let before = most;
      most = max(most, max(max(l.x, l.y), max(l.z, l.w)));
      partial = ${grown};`)
      }
  let largest = maxOfThreads(thread, most);
  let sum = sumOfThreads(thread, partial * ${weightOf("most", "largest", "exp")});
  if (thread == 0u) { nll[s] = log(sum) + (largest - labelLogit); }
${
        backward
          ? `  let onehot = weights[s] * gradScaler[0];
  let factor = onehot / sum;
${
            pass(`if (i < vectors) {
        let column = i * 4u + LANES;
        let hit = select(vec4<f32>(), vec4<f32>(onehot), column == vec4<u32>(label));
        let g = ${gradient};
        store_logits(row + i, select(vec4<f32>(), g, column < vec4<u32>(u.vocab)));
      }`)
          }`
          : ""
      }
}`,
    };
  },
);

/**
 * Writes nll of rows firstRow to firstRow + rows (at most 65,535 rows) and, where `backward`, turns
 * their logits into gradients.
 */
export function crossEntropy(
  gpu: Gpu,
  { logits, targets, weights, nll, gradScaler, rows, firstRow, vocab, softcap, backward }: {
    logits: Tensor;
    targets: Tensor;
    weights: Tensor;
    nll: Tensor;
    gradScaler: Tensor;
    rows: number;
    firstRow: number;
    vocab: number;
    /** What logits are capped to; null where they are not. */
    softcap: number | null;
    backward: boolean;
  },
): void {
  const width = logits.rowSize;
  const tensors = backward ? [logits, targets, nll, weights, gradScaler] : [logits, targets, nll];
  const { threads, ahead } = shareOn(gpu);
  const variant = { backward, softcap: softcap !== null, threads, ahead };
  const uniforms = { width, vocab, firstRow, softcap: softcap ?? 0 };
  gpu.run(program(variant), tensors, uniforms, [rows], {
    flops: rows * width * (backward ? 7 : 4),
    bytes: rows * width * (backward ? 12 : 4),
  });
}

const THREADS = 256;

const sumProgram = programFamily("weighted_sums", () => ({
  bindings: [
    { name: "nll", dtype: "f32", access: "read", scalar: true },
    { name: "weights", dtype: "f32", access: "read", scalar: true },
    { name: "totals", dtype: "f32", access: "write", scalar: true },
  ],
  uniforms: { firstRow: "u32", rows: "u32", slot: "u32" },
  body: `${sumOfThreads(THREADS)}
@compute @workgroup_size(${THREADS})
fn main(@builtin(local_invocation_index) thread: u32) {
  var partial = 0.0;
  for (var i = thread; i < u.rows; i += ${THREADS}u) {
    partial += nll[u.firstRow + i] * weights[u.firstRow + i];
  }
  let sum = sumOfThreads(thread, partial);
  if (thread == 0u) { totals[u.slot] = sum; }
}`,
}));

/** Writes Σ nll · weights over `rows` rows from `firstRow` on to out[slot]. */
export function weightedSums(
  gpu: Gpu,
  { nll, weights, out, slot, firstRow = 0, rows }: {
    nll: Tensor;
    weights: Tensor;
    out: Tensor;
    slot: number;
    firstRow?: number;
    rows: number;
  },
): void {
  gpu.run(sumProgram({}), [nll, weights, out], { firstRow, rows, slot }, [1], {
    flops: 2 * rows,
    bytes: 8 * rows,
  });
}
