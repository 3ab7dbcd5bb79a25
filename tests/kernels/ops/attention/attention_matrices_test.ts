import { whole } from "../rope/rotaries.ts";
import assert from "node:assert/strict";
import { matrixForwardSource } from "../../../../kernels/ops/attention/matrix/forward.ts";
import { matrixGradientSource } from "../../../../kernels/ops/attention/matrix/gradient.ts";
import { matrixKey } from "../../../../kernels/ops/attention/matrix/plan.ts";
import { MATRIX_SHAPES, type MatrixName } from "../../../../kernels/gpu/subgroup_matrix.ts";
import { Tensor } from "../../../../kernels/gpu/tensor.ts";
import { attentionReference as reference } from "./attention_reference.ts";
import {
  checkBackward,
  documents,
  inputs,
  relative,
  runForward,
  SHARED,
  sharingDocuments,
} from "./attention_runs.ts";
import { assertClose } from "../../harness.ts";
import { matrixTest } from "../../subgroup_matrices.ts";

const how = { unstaged: false, f16Sums: true, matrices: true, gap: 8 };
const limits = { atol: 3e-3, rtol: 3e-3 };

matrixTest("attention on subgroup matrices agrees with the reference", async (gpu) => {
  const cases = [
    [[1], Infinity, 2, 2, 64],
    [[15, 1, 33, 20], Infinity, 4, 2, 64],
    [[31, 70], Infinity, 2, 1, 128],
    [[100], 13, 2, 2, 64],
    [[15, 33], Infinity, 2, 1, 64, 0.5],
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
    // Of emulated matrices a program of wide heads takes seconds to compile.
    const all = [undefined, whole(headDim), { dims: headDim, pairs: "neighbours" }] as const;
    for (const rotation of gpu.matrices === "emulated" && headDim > 64 ? all.slice(1, 2) : all) {
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
  const shape = { heads: 2, kvHeads: 1, headDim: 64 };
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

Deno.test("attention's programs for matrices are for f16 in words, and two fit workgroup memory", () => {
  const tensor = (dtype: "f16" | "f32", width: number) =>
    new Tensor("x", dtype, [4, width], undefined);
  const device = { matrices: "tensor_cores" } as const, whole = tensor("f16", 256);
  const key = (
    options: { headDim?: number; f16Sums?: boolean; matrices?: boolean; shape?: "16x32" },
    ...tensors: Tensor[]
  ) =>
    matrixKey(device, { headDim: 128, f16Sums: true, ...options }, [
      whole,
      ...tensors,
    ]);
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
    matrixKey(device, { headDim: 64, f16Sums: true }, [{ tensor: whole, from: 4 }]),
    undefined,
  );
  assert.equal(matrixKey({}, { headDim: 64, f16Sums: true, matrices: true }, [whole]), undefined);
  // A software driver multiplies matrices slowly: only tests ask for them.
  assert.equal(
    matrixKey({ matrices: "software" }, { headDim: 64, f16Sums: true }, [whole]),
    undefined,
  );
  for (const matrices of Object.keys(MATRIX_SHAPES) as MatrixName[]) {
    for (const headDim of [64, 128]) {
      for (
        const source of [
          matrixForwardSource({ withLse: true, excludes: true, softcap: false, matrices, headDim }),
          matrixGradientSource({
            rotated: "halves",
            excludes: true,
            packed: false,
            softcap: false,
            matrices,
            headDim,
          }),
        ]
      ) {
        const declared = [...source.body.matchAll(/var<workgroup> \w+: array<vec4<u32>, (\d+)>/g)];
        const total = declared.reduce((sum, [, count]) => sum + Number(count) * 16, 0);
        assert.equal(declared.length, source.body.match(/var<workgroup>/g)!.length);
        // A multiprocessor of an H100 holds two workgroups of so much.
        assert.ok(total > 0 && total <= 24 << 10, `${total}`);
      }
    }
  }
});
