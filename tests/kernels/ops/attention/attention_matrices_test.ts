import { whole } from "../rope/rotaries.ts";
import assert from "node:assert/strict";
import { matrixForwardSource } from "../../../../kernels/ops/attention/matrix/forward.ts";
import { matrixGradientSource } from "../../../../kernels/ops/attention/matrix/gradient.ts";
import { matrixKey } from "../../../../kernels/ops/attention/matrix/plan.ts";
import { MATRIX_SHAPES, type MatrixName } from "../../../../kernels/gpu/subgroup_matrix.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { Tensor } from "../../../../kernels/gpu/tensor.ts";
import { attentionReference as reference } from "./attention_reference.ts";
import {
  checkBackward,
  documents,
  inputs,
  runForward,
  SHARED,
  sharingDocuments,
} from "./attention_runs.ts";
import { assertClose, relative } from "../../harness.ts";
import { matrixTest } from "../../subgroup_matrices.ts";
import { workgroupBytes } from "../../workgroup_bytes.ts";

const how = { unstaged: false, f16Sums: true, matrices: true, gap: 8 };
/** Bytes of workgroup memory of a multiprocessor. */
const WORKGROUP_MEMORY = 48 << 10;
const limits = { atol: 3e-3, rtol: 3e-3 };

/** The size of the narrowest heads that the programs take, which compile fastest. */
const narrowest = ({ matrices }: Gpu) => 4 * MATRIX_SHAPES[matrices ?? "emulated"].n;

matrixTest("attention on subgroup matrices agrees with the reference", async (gpu) => {
  const cases = [
    [[1], Infinity, 2, 2, 64],
    [[15, 1, 33, 20], Infinity, 4, 2, 64],
    [[31, 70], Infinity, 2, 1, 128],
    [[100], 13, 2, 2, 64],
    [[15, 33], Infinity, 2, 1, narrowest(gpu), 0.5],
  ] as const;
  for (const [lengths, window, heads, kvHeads, headDim, softcap] of cases) {
    const shape = { heads, kvHeads, headDim, softcap }, keyRanges = documents([...lengths], window);
    const rows = keyRanges.starts.length, host = inputs(shape, rows, rows, "f16");
    const expected = reference(host.q, host.k, host.v, keyRanges, shape);
    const what = `of ${lengths} in heads of ${headDim}`;
    const { out, lse } = await runForward(
      gpu,
      host,
      keyRanges,
      { sizes: shape, dtype: "f16" },
      how,
    );
    assertClose(out, expected.out, { ...limits, what: `out ${what}` });
    assertClose(lse, expected.lse, { atol: 1e-4, rtol: 1e-4, what: `lse ${what}` });
    assert.ok(relative(out, expected.out) < 5e-4, `out ${what} is off by the mean`);
    // Of emulated matrices a program takes seconds to compile.
    const all = [undefined, whole(headDim), { dims: headDim, pairs: "neighbours" }] as const;
    for (const rotation of gpu.matrices === "emulated" && headDim !== 64 ? all.slice(1, 2) : all) {
      await checkBackward(
        gpu,
        { host, keyRanges, expected, sizes: shape, dtype: "f16" },
        { limits, what },
        how,
        rotation,
      );
    }
  }
});

matrixTest("attention on subgroup matrices takes documents that share rows", async (gpu) => {
  const shape = { heads: 2, kvHeads: 1, headDim: narrowest(gpu) };
  for (const groups of SHARED) {
    const keyRanges = sharingDocuments(groups), rows = keyRanges.starts.length;
    const host = inputs(shape, rows, rows, "f16"), what = JSON.stringify(groups);
    const expected = reference(host.q, host.k, host.v, keyRanges, shape);
    const { out, lse } = await runForward(
      gpu,
      host,
      keyRanges,
      { sizes: shape, dtype: "f16" },
      how,
    );
    assertClose(out, expected.out, { ...limits, what: `out of ${what}` });
    assertClose(lse, expected.lse, { atol: 1e-4, rtol: 1e-4, what: `lse of ${what}` });
    await checkBackward(
      gpu,
      { host, keyRanges, expected, sizes: shape, dtype: "f16" },
      { limits, what },
      how,
      whole(shape.headDim),
    );
  }
});

matrixTest(
  "attention on subgroup matrices takes a cache, and queries without keys",
  async (gpu) => {
    const shape = { heads: 2, kvHeads: 1, headDim: 64 }, rows = 20, filled = 50;
    const host = inputs(shape, rows, filled + 30, "f16");
    const ends = Array.from({ length: rows }, (_, i) => i === 0 ? 0 : filled - rows + i + 1);
    const keyRanges = { starts: Array<number>(rows).fill(0), ends };
    const expected = reference(host.q, host.k, host.v, keyRanges, shape);
    for (const x of [host.k, host.v]) x.fill(NaN, filled * shape.headDim);
    const { out, lse } = await runForward(
      gpu,
      host,
      keyRanges,
      { sizes: shape, dtype: "f16" },
      how,
    );
    const first = shape.heads * shape.headDim;
    assert.deepEqual(out.slice(0, first), new Float64Array(first));
    assert.deepEqual([...lse.slice(0, 2)], Array(2).fill(Math.fround(-3.4028234e38)));
    assertClose(out.slice(first), expected.out.slice(first), { ...limits, what: "out" });
  },
);

matrixTest(
  "attention on subgroup matrices takes queries of f32 and growing scores",
  async (gpu) => {
    const shape = { heads: 2, kvHeads: 1, headDim: 64 }, keyRanges = documents([70, 31]);
    const rows = keyRanges.starts.length, host = inputs(shape, rows, rows, "f16");
    // From tile to tile the highest score of a row grows to many times what f16 holds relative to the first.
    for (let i = 0; i < host.k.length; i++) host.k[i] *= 2 ** Math.floor(i / shape.headDim / 16);
    const expected = reference(host.q, host.k, host.v, keyRanges, shape);
    const sizes = { sizes: shape, dtype: "f16", queries: "f32" } as const;
    const { out, lse } = await runForward(gpu, host, keyRanges, sizes, {
      ...how,
      f16Sums: false,
      f16Operands: true,
    });
    assertClose(out, expected.out, { ...limits, what: "out" });
    assertClose(lse, expected.lse, { atol: 1e-4, rtol: 1e-4, what: "lse" });
  },
);

matrixTest("attention on subgroup matrices keeps large gradients finite", async (gpu) => {
  const shape = { heads: 1, kvHeads: 1, headDim: 64 }, keyRanges = documents([40]);
  const host = inputs(shape, 40, 40, "f16");
  // As the loss scale makes them: sums of products leave the range of f16.
  host.dout = host.dout.map((value) => Math.fround(Math.round(value * 64) * 256));
  const expected = reference(host.q, host.k, host.v, keyRanges, shape);
  const large = { atol: 60, rtol: 5e-3 };
  await checkBackward(gpu, { host, keyRanges, expected, sizes: shape, dtype: "f16" }, {
    limits: large,
    what: "large",
  }, how);
});

Deno.test("attention's programs for matrices are for f16 in words that fit workgroup memory", () => {
  const tensor = (dtype: "f16" | "f32", width: number) =>
    new Tensor("x", dtype, [4, width], undefined);
  const withLimit = (maxComputeWorkgroupStorageSize: number) => ({
    limits: { maxComputeWorkgroupStorageSize },
  } as Gpu["device"]);
  const limited = { device: withLimit(WORKGROUP_MEMORY) }, whole = tensor("f16", 256);
  const device = { ...limited, matrices: "tensor_cores" } as const;
  const key = (
    options: { headDim?: number; f16Sums?: boolean; matrices?: boolean; shape?: "16x32" },
    ...tensors: Tensor[]
  ) =>
    matrixKey(device, { headDim: 128, f16Sums: true, ...options }, {
      halves: [whole, ...tensors],
    });
  assert.deepEqual(key({}), { matrices: "tensor_cores", headDim: 128 });
  assert.deepEqual(key({ headDim: 64 }), { matrices: "tensor_cores", headDim: 64 });
  assert.equal(key({ headDim: 80 }), undefined);
  assert.equal(key({ headDim: 256 }), undefined);
  assert.equal(key({ f16Sums: false }), undefined);
  assert.equal(key({ matrices: false }), undefined);
  assert.equal(key({ shape: "16x32" }), undefined);
  assert.equal(key({}, tensor("f32", 256)), undefined);
  assert.equal(key({}, tensor("f16", 252)), undefined);
  assert.equal(
    matrixKey(device, { headDim: 64, f16Sums: true }, { halves: [{ tensor: whole, from: 4 }] }),
    undefined,
  );
  assert.equal(
    matrixKey(limited, { headDim: 64, f16Sums: true, matrices: true }, { halves: [whole] }),
    undefined,
  );
  // Queries may be f32, where operands may be rounded.
  assert.deepEqual(
    matrixKey(device, { headDim: 64, f16Operands: true }, {
      halves: [whole],
      either: [tensor("f32", 256)],
    }),
    { matrices: "tensor_cores", headDim: 64 },
  );
  assert.equal(
    matrixKey({ ...device, device: withLimit(32 << 10) }, { headDim: 128, f16Sums: true }, {
      halves: [whole],
    }),
    undefined,
  );
  // A software driver multiplies matrices slowly: only tests ask for them.
  assert.equal(
    matrixKey({ ...limited, matrices: "software" }, { headDim: 64, f16Sums: true }, {
      halves: [whole],
    }),
    undefined,
  );
  const bytes = Object.keys(MATRIX_SHAPES).flatMap((matrices) =>
    [64, 128].flatMap((headDim) => {
      const key = { matrices: matrices as MatrixName, headDim, excludes: true, softcap: false };
      return [
        matrixForwardSource({ dtype: "f32", out: "f16", withLse: true, ...key }),
        matrixGradientSource({ rotated: "halves", packed: false, ...key }),
      ].map(({ body }) => workgroupBytes(body));
    })
  );
  assert.ok(Math.max(...bytes) <= WORKGROUP_MEMORY, `${bytes}`);
});
