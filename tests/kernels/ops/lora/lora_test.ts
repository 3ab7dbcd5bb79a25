import assert from "node:assert/strict";
import { dropoutMask } from "../../../../kernels/wgsl/dropout.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import {
  loraBackward,
  loraDown,
  type LoraGroup,
  type LoraModule,
  loraUp,
} from "../../../../kernels/ops/lora/lora.ts";
import { type LoraProducts, loraPrograms } from "../../../../kernels/ops/lora/choice.ts";
import { type DeviceProfile, H100 } from "../../../../kernels/gpu/device_profile.ts";
import type { MatrixName } from "../../../../kernels/gpu/subgroup_matrix.ts";
import type { SplitKPartials } from "../../../../kernels/ops/split_k/split_k.ts";
import { type Dtype, Tensor } from "../../../../kernels/gpu/tensor.ts";
import { withHardwarePrograms } from "../../hardware_programs.ts";
import { matrixTest } from "../../subgroup_matrices.ts";
import {
  assertClose,
  AWKWARD,
  AWKWARD4,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  relative,
  upload,
} from "../../harness.ts";

/** Sizes and dtypes of one test. Each layer has its outputs and a gap of columns before them. */
interface Case {
  rows: number;
  input: number;
  outputs: number[];
  rank: number;
  p: number;
  /** Of x, y and dy. */
  act: Dtype;
  /** Of A and B. */
  weight: Dtype;
  /** Whether subgroup matrices multiply, which round operands to f16, and sizes of their tiles. */
  matrices: boolean;
  tiles?: LoraProducts["tiles"];
}

const BASE: Case = {
  rows: 5,
  input: 36,
  outputs: [28, 12],
  rank: 8,
  p: 0.3,
  act: "f32",
  weight: "f32",
  matrices: false,
};
const SCALE = 0.75;

/** a `[m, k]` times b `[k, n]`, either transposed where its name says so. */
function product(
  [m, k, n]: [number, number, number],
  a: (i: number, j: number) => number,
  b: (i: number, j: number) => number,
): Float64Array {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let l = 0; l < k; l++) {
      const factor = a(i, l);
      for (let j = 0; j < n; j++) c[i * n + j] += factor * b(l, j);
    }
  }
  return c;
}

/** Everything that the kernels compute for one layer, in float64. */
function reference(
  { rows, input, rank, p }: Case,
  output: number,
  { x, dy, a, b, kept, scale }: Record<"x" | "dy" | "a" | "b", Float64Array> & {
    kept: Uint8Array;
    scale: number;
  },
) {
  const dropped = x.map((v, i) => kept[i] * v / (1 - p));
  const loraHidden = product(
    [rows, input, rank],
    (t, k) => dropped[t * input + k],
    (k, j) => a[j * input + k],
  );
  const y = product(
    [rows, rank, output],
    (t, j) => scale * loraHidden[t * rank + j],
    (j, k) => b[k * rank + j],
  );
  const loraHiddenGrad = product(
    [rows, output, rank],
    (t, k) => scale * dy[t * output + k],
    (k, j) => b[k * rank + j],
  );
  const gradA = product(
    [rank, rows, input],
    (j, t) => loraHiddenGrad[t * rank + j],
    (t, k) => dropped[t * input + k],
  );
  const gradB = product(
    [output, rows, rank],
    (k, t) => scale * dy[t * output + k],
    (t, j) => loraHidden[t * rank + j],
  );
  const dx = product(
    [rows, rank, input],
    (t, j) => loraHiddenGrad[t * rank + j],
    (j, k) => a[j * input + k],
  ).map((v, i) => kept[i] * v / (1 - p));
  return { loraHidden, y, loraHiddenGrad, gradA, gradB, dx };
}

const plus = (a: Float64Array, b: Float64Array) => a.map((v, i) => v + b[i]);

async function test(gpu: Gpu, change: Partial<Case>) {
  const c = { ...BASE, ...change }, { rows, input, outputs, rank, p, act, weight, matrices } = c;
  const count = outputs.length, mask = { p, seed: 0xdeadbeef, step: 7 };
  const gap = matrices ? 8 : 4;
  const columns = outputs.reduce((sum, width) => sum + gap + width, 0);
  const what = JSON.stringify(change);
  const x = quantize(randomArray(rows * input, 1), act);
  const y = quantize(randomArray((rows + 1) * columns, 2), act);
  const dy = quantize(randomArray((rows + 1) * columns, 3), act);
  const X = upload(gpu, x, act, [rows, input]);
  const Y = upload(gpu, y, act, [rows + 1, columns]);
  const DY = upload(gpu, dy, act, [rows + 1, columns]);
  const loraHidden = poisoned(gpu, "f32", [rows + 1, count * rank]);
  const loraHiddenGrad = poisoned(gpu, "f32", [rows + 1, count * rank]);
  // Gradients of all modules in one buffer, as an optimizer has them.
  const arena = gpu.memory.arena(
    "gradient",
    "gradients",
    outputs.flatMap((output) => [
      { name: "a", dtype: "f32", shape: [rank, input] },
      { name: "b", dtype: "f32", shape: [output, rank] },
    ]),
  );
  const beforeA = quantize(randomArray(rank * input, 4), "f32");
  const expectedY = y.slice(), expectedDx = new Float64Array(rows * input);
  const parts: ReturnType<typeof reference>[] = [], modules: LoraModule[] = [];
  let from = 0;
  outputs.forEach((output, m) => {
    from += gap;
    const first = from;
    const a = quantize(randomArray(rank * input, 10 + m), matrices ? "f16" : weight);
    const b = quantize(randomArray(output * rank, 20 + m), matrices ? "f16" : weight);
    const own = Float64Array.from(
      { length: rows * output },
      (_, i) => dy[Math.floor(i / output) * columns + first + i % output],
    );
    const kept = dropoutMask(rows * input, { ...mask, subsequence: 31 + m });
    const scale = SCALE * (m + 1);
    const part = reference(c, output, { x, dy: own, a, b, kept, scale });
    part.y.forEach((v, i) => expectedY[Math.floor(i / output) * columns + first + i % output] += v);
    part.dx.forEach((v, i) => expectedDx[i] += v);
    parts.push(part);
    const [gradA, gradB] = arena.slice(2 * m);
    gpu.write(gradA, Float32Array.from(beforeA));
    modules.push({
      a: upload(gpu, a, weight, [rank, input]),
      b: upload(gpu, b, weight, [output, rank]),
      from: first,
      subsequence: 31 + m,
      scale,
      gradA,
      gradB,
    });
    from += output;
  });
  const group: LoraGroup = { modules, mask };
  const limits = { atol: 1e-4, rtol: 1e-4 };
  const half = { atol: 2e-3, rtol: 2e-3 };
  // Sums of as many products with a rounded factor.
  const rounded = (count: number) =>
    matrices ? { atol: 8e-3 * Math.sqrt(count), rtol: 2e-3 } : undefined;
  const closeOn = (actual: Float64Array, expected: Float64Array, what: string) => {
    if (matrices) assert.ok(relative(actual, expected) < 6e-4, `${what} is off by the mean`);
  };
  const products = { operands: matrices ? "f16" : "f32", matrices, tiles: c.tiles } as const;

  loraDown(gpu, { x: X, group, loraHidden, rows, ...products });
  loraUp(gpu, { loraHidden, group, y: Y, rows });
  assertClose(await download(gpu, Y), expectedY, {
    ...rounded(rank) ?? (act === "f16" ? half : limits),
    what: `${what} y`,
  });
  const rowsOf = (tensor: Float64Array, m: number) =>
    tensor.filter((_, i) => i < rows * count * rank && Math.floor(i % (count * rank) / rank) === m);

  const before = quantize(randomArray(rows * input, 5), act);
  const dx = upload(gpu, before, act, [rows, input]);
  loraBackward(gpu, { x: X, dy: DY, loraHidden, loraHiddenGrad, group, rows, dx, ...products });
  assertClose(await download(gpu, dx), plus(before, expectedDx), {
    ...rounded(rank) ?? (act === "f16" ? half : limits),
    what: `${what} dx`,
  });
  // Once more into a further split, once more without dx: gradients add up.
  const splits = poisoned(gpu, "f32", [4 * rows * input]);
  const splitK: SplitKPartials = { tensor: splits, splits: 2, rows, width: input };
  loraBackward(gpu, {
    x: X,
    dy: DY,
    loraHidden,
    loraHiddenGrad,
    group,
    rows,
    dx: splitK,
    ...products,
  });
  assert.equal(splitK.splits, 3);
  const sums = await download(gpu, splits), split = rows * input;
  closeOn(sums.slice(2 * split, 3 * split), expectedDx, `${what} split`);
  assertClose(sums.subarray(2 * split, 3 * split), expectedDx, {
    ...rounded(rank) ?? limits,
    what: `${what} split`,
  });
  const others = [...sums.subarray(0, 2 * split), ...sums.subarray(3 * split)];
  assert.ok(others.every(Number.isNaN), `${what}: another split was written`);
  loraBackward(gpu, { x: X, dy: DY, loraHidden, loraHiddenGrad, group, rows, ...products });
  const loraHiddens = await download(gpu, loraHidden),
    loraHiddenGrads = await download(gpu, loraHiddenGrad);
  for (const tensor of [loraHiddens, loraHiddenGrads]) {
    assert.ok(tensor.subarray(rows * count * rank).every(Number.isNaN), `${what}: rows beyond`);
  }
  for (const [m, part] of parts.entries()) {
    const { gradA, gradB } = modules[m] as Required<LoraModule>;
    assertClose(rowsOf(loraHiddens, m), part.loraHidden, {
      ...limits,
      what: `${what} loraHidden ${m}`,
    });
    assertClose(rowsOf(loraHiddenGrads, m), part.loraHiddenGrad, {
      ...limits,
      what: `${what} loraHiddenGrad ${m}`,
    });
    const many = rounded(9 * rows) ?? { atol: 1e-3, rtol: 1e-4 };
    const sumA = plus(beforeA, part.gradA.map((v) => 3 * v));
    const actualA = await download(gpu, gradA), actualB = await download(gpu, gradB);
    closeOn(actualA, sumA, `${what} gradA ${m}`);
    assertClose(actualA, sumA, { ...many, what: `${what} gradA ${m}` });
    const sumB = part.gradB.map((v) => 3 * v);
    closeOn(actualB, sumB, `${what} gradB ${m}`);
    assertClose(actualB, sumB, { ...many, what: `${what} gradB ${m}` });
  }
  gpu.free(arena[0]);
}

gpuTest("adapters and their backward agree with the reference at awkward sizes", async (gpu) => {
  for (const rows of AWKWARD) await test(gpu, { rows });
  for (const input of AWKWARD4) await test(gpu, { input });
  for (const output of AWKWARD4) await test(gpu, { outputs: [12, output] });
  for (const rank of [4, 12, 16, 20, 64, 68, 256]) await test(gpu, { rank });
});

gpuTest(
  "adapters of one to three layers, with and without dropout, in every dtype",
  async (gpu) => {
    for (const p of [0, 0.9]) await test(gpu, { p });
    for (const outputs of [[40], [132, 4, 260]]) await test(gpu, { outputs, rows: 33 });
    await test(gpu, { act: "f16", weight: "f16", rows: 31 });
  },
);

gpuTest(
  "adapters agree with the reference in programs for GPUs",
  (gpu) =>
    withHardwarePrograms(gpu, async (gpu) => {
      for (const rows of [1, 33, 129, 300]) await test(gpu, { rows });
      for (const input of [4, 260]) await test(gpu, { input });
      for (const output of [4, 260, 1028]) await test(gpu, { outputs: [12, output] });
      for (const rank of [4, 20, 64, 256]) await test(gpu, { rank });
      await test(gpu, { act: "f16", outputs: [260, 12, 12], rows: 31, p: 0 });
    }),
);

matrixTest("adapters on subgroup matrices agree with the reference", async (gpu) => {
  // Programs for small tiles take less time to compile where matrices are emulated.
  const small = { downDepth: 64, gradDepth: 32, upRows: 16, upColumns: 64 };
  const tiles = gpu.matrices === "tensor_cores" ? undefined : small;
  const of = (change: Partial<Case>) =>
    test(gpu, { act: "f16", outputs: [24, 40], input: 40, tiles, ...change, matrices: true });
  for (const rows of [1, 7, 31, 33, 129, 300]) await of({ rows });
  await of({ rows: 33, tiles: tiles && { ...tiles, downRows: 16 } });
  for (const input of [8, 136, 264]) await of({ input, rows: 33 });
  for (const output of [8, 136, 264]) await of({ outputs: [24, output], rows: 33 });
  for (const rank of [4, 12, 68]) await of({ rank, rows: 33 });
  await of({ outputs: [264, 8, 40], rows: 65, p: 0, rank: 4 });
  await of({ outputs: [40], rows: 33, weight: "f16" });
});

Deno.test("tensor cores take adapters in mixed precision, of many rows and even widths", () => {
  const x = new Tensor("x", "f16", [512, 64], undefined);
  const profile: DeviceProfile = {
    ...H100,
    software: false,
    subgroup: 32,
    workgroupThreads: 1024,
    workgroupBytes: 48 << 10,
  };
  const rounds = (
    matrices: MatrixName | undefined,
    change: Partial<Parameters<typeof loraPrograms>[1]> = {},
  ) =>
    loraPrograms({ matrices, profile }, {
      pass: "backward",
      rows: 512,
      rank: 16,
      modules: 2,
      read: x,
      widths: [64],
      operands: "f16",
      ...change,
    }).rounds;
  assert.ok(rounds("tensor_cores"));
  assert.ok(!rounds(undefined));
  assert.ok(!rounds("tensor_cores", { operands: "f32" }));
  assert.ok(!rounds("tensor_cores", { rows: 121 }));
  assert.ok(!rounds("tensor_cores", { pass: "forward" }));
  assert.ok(rounds("tensor_cores", { pass: "forward", rows: 968 }));
  assert.ok(!rounds("tensor_cores", { widths: [64, 60] }));
  assert.ok(!rounds("tensor_cores", { read: new Tensor("x", "f32", [512, 64], undefined) }));
  assert.ok(!rounds("tensor_cores", { read: new Tensor("x", "f16", [512, 60], undefined) }));
  // A software driver multiplies matrices slowly: only tests ask for them.
  assert.ok(!rounds("software"));
});

Deno.test("adapters of different sizes are refused", () => {
  const planned = (...shape: number[]) => new Tensor("t", "f32", shape, undefined);
  const own = (a: Tensor, b: Tensor) => ({ a, b, from: 0, subsequence: 0, scale: 1 });
  const [x, loraHidden] = [planned(3, 8), planned(3, 8)], mask = { p: 0, seed: 1, step: 1 };
  const run = (modules: LoraModule[]) =>
    loraDown({} as Gpu, { x, loraHidden, rows: 3, group: { modules, mask } });
  const right = own(planned(4, 8), planned(12, 4));
  assert.throws(() => run([]), /0 adapters in one group/);
  assert.throws(() => run([right, right, right, right]), /4 adapters in one group/);
  assert.throws(() => run([right, own(planned(8, 8), planned(12, 8))]), /do not fit/);
  assert.throws(() => run([right, own(planned(4, 12), planned(12, 4))]), /do not fit/);
  assert.throws(() => run([own(planned(6, 8), planned(12, 6))]), /do not fit/);
});
