/**
 * Whether greedy decoding would choose the targets of rows.
 *
 * Shapes: logits `[R, Vp]` f32, where columns from `vocab` on are padding; targets `[S]` u32 below `vocab`; greedy `[S]`
 * f32. With s = firstRow + r: greedy[s] = 1 where no logit of row r exceeds that of targets[s], and none before it equals
 * it, else 0.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, readsScalars } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { maxOfThreads } from "../../wgsl/reduce.ts";

const THREADS = 64;

const program = programFamily("greedy", () => ({
  bindings: [
    ...reads("f32", "logits"),
    ...readsScalars("u32", "targets"),
    { name: "greedy", dtype: "f32", access: "write", scalar: true },
  ],
  uniforms: { width: "u32", vocab: "u32", firstRow: "u32" },
  body: `${maxOfThreads(THREADS)}
const LANES = vec4<u32>(0u, 1u, 2u, 3u);

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let vectors = u.width / 4u;
  let row = group.x * vectors;
  let s = u.firstRow + group.x;
  let label = targets[s];
  let most = vec4<f32>(load_logits(row + label / 4u)[label % 4u]);
  var beaten = 0.0;
  for (var i = thread; i < vectors; i += ${THREADS}u) {
    let v = load_logits(row + i);
    let column = i * 4u + LANES;
    let isBefore = column < vec4<u32>(label);
    let isMore = (v > most) | ((v == most) & isBefore);
    if (any(isMore & (column < vec4<u32>(u.vocab)))) { beaten = 1.0; }
  }
  let isBeaten = maxOfThreads(thread, beaten);
  if (thread == 0u) { greedy[s] = 1.0 - isBeaten; }
}`,
}));

/** Writes greedy of rows firstRow to firstRow + rows (at most 65,535 rows). */
export function greedyTargets(
  gpu: Gpu,
  { logits, targets, greedy, rows, firstRow, vocab }: {
    logits: Tensor;
    targets: Tensor;
    greedy: Tensor;
    rows: number;
    firstRow: number;
    vocab: number;
  },
): void {
  const width = logits.rowSize;
  gpu.run(program({}), [logits, targets, greedy], { width, vocab, firstRow }, [rows], {
    flops: 2 * rows * width,
    bytes: 4 * rows * width,
  });
}
