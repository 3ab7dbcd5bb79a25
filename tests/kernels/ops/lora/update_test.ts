import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { loraUpdate } from "../../../../kernels/ops/lora/lora.ts";
import { addsUpdate, matmul } from "../../../../kernels/ops/matmul/matmul.ts";
import assert from "node:assert/strict";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import { assertClose, download, quantize, randomArray, upload } from "../../harness.ts";
import { matrixTest } from "../../subgroup_matrices.ts";

/** A product whose C begins at column `from` of y, of which three modules have columns. */
interface Case {
  rows: number;
  rank: number;
  from: number;
  y: Dtype;
  splits: number;
}

const K = 72, N = 136;
/** First columns, widths and factors of the modules, in a row of y that has 176. */
const MODULES = [[8, 40, 0.5], [52, 12, 2], [72, 96, 1]] as const, WIDTH = 176;

async function check(gpu: Gpu, { rows, rank, from, y: dtype, splits }: Case) {
  const a = quantize(randomArray(rows * K, 1), "f16"), b = quantize(randomArray(N * K, 2), "f16");
  const before = quantize(randomArray(rows * WIDTH, 3), dtype);
  const hidden = quantize(randomArray(rows * MODULES.length * rank, 4), "f16");
  const ups = MODULES.map(([, width], m) => quantize(randomArray(width * rank, 5 + m), "f16"));
  const [A, B] = [upload(gpu, a, "f16", [rows, K]), upload(gpu, b, "f16", [N, K])];
  const y = upload(gpu, before, dtype, [rows, WIDTH]);
  const loraHidden = upload(gpu, hidden, "f32", [rows, MODULES.length * rank]);
  const modules = MODULES.map(([first, width, scale], m) => ({
    a: upload(gpu, new Float64Array(rank * K), "f32", [rank, K]),
    b: upload(gpu, ups[m], "f32", [width, rank]),
    from: first,
    scale,
    subsequence: m,
  }));
  // A tile that its subgroups' threads can share, of which tensor cores have more than emulated matrices.
  const tile = gpu.matrices === "tensor_cores"
    ? { blockM: 64, blockN: 192, blockK: 64, subgroupsM: 2, subgroupsN: 4 }
    : { blockM: 32, blockN: 64, blockK: 32, subgroupsM: 2, subgroupsN: 4 };
  matmul(gpu, {
    orientation: "nt",
    a: A,
    b: B,
    c: y,
    cFrom: from,
    accumulate: true,
    rows,
    operands: "f16",
    update: loraUpdate({ modules }, loraHidden),
    geometry: { ...tile, splits },
  });
  const expected = before.map((value, at) => {
    const t = Math.floor(at / WIDTH), column = at % WIDTH, n = column - from;
    if (n < 0 || n >= N) return value;
    let sum = value;
    for (let k = 0; k < K; k++) sum += a[t * K + k] * b[n * K + k];
    MODULES.forEach(([first, width, scale], m) => {
      const own = column - first;
      if (own < 0 || own >= width) return;
      for (let j = 0; j < rank; j++) {
        sum += scale * hidden[(t * MODULES.length + m) * rank + j] * ups[m][own * rank + j];
      }
    });
    return sum;
  });
  const limits = dtype === "f16" ? { atol: 5e-3, rtol: 1e-3 } : { atol: 1e-4, rtol: 1e-4 };
  const what = JSON.stringify({ rows, rank, from, dtype, splits });
  assertClose(await download(gpu, y), expected, { ...limits, what });
}

matrixTest("products on tensor cores add the updates of adapters", async (gpu) => {
  await check(gpu, { rows: 33, rank: 4, from: 0, y: "f32", splits: 1 });
  await check(gpu, { rows: 7, rank: 20, from: 40, y: "f32", splits: 2 });
  await check(gpu, { rows: 65, rank: 16, from: 16, y: "f16", splits: 1 });
});

matrixTest("a software driver's products leave the updates of adapters to others", (gpu) => {
  const tensor = (dtype: Dtype, shape: number[]) =>
    upload(gpu, new Float64Array(shape[0] * shape[1]), dtype, shape);
  const [a, b, c] = [tensor("f16", [33, K]), tensor("f16", [N, K]), tensor("f32", [33, N])];
  const product = { a, b, c, rows: 33, operands: "f16" } as const;
  assert.equal(addsUpdate(gpu, product), gpu.matrices === "tensor_cores");
  assert.ok(!addsUpdate(gpu, { ...product, operands: "f32" }));
  assert.ok(!addsUpdate(gpu, { ...product, a: tensor("f16", [1, K]), rows: 1 }));
  return Promise.resolve();
});
