/** Everything but products that reads quantised weights, and weights that are read in parts. */
import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { embeddingDoraFactors } from "../../../../kernels/ops/dora/dora_embedding.ts";
import { doraFactors } from "../../../../kernels/ops/dora/dora.ts";
import { embedding } from "../../../../kernels/ops/embedding/embedding.ts";
import { matmul } from "../../../../kernels/ops/matmul/matmul.ts";
import { allTiles } from "../../../../kernels/ops/matmul/tiled_geometry.ts";
import { weightKind } from "../../../../kernels/ops/weights/kinds.ts";
import {
  encodeWeight,
  packOperands,
  planeTensors,
  WeightOperand,
} from "../../../../kernels/ops/weights/operand.ts";
import {
  assertClose,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  upload,
} from "../../harness.ts";
import { withMaxBinding } from "../../small_binding.ts";
import { decoded, encoded, QUANTIZED, type QuantizedName } from "./encoded.ts";
import { assertSameValues } from "../../../same.ts";

const columnsFor = (name: QuantizedName) => name === "int8" ? 160 : 176;

/** A weight with blocks of different sizes, and its values. */
async function weight(gpu: Gpu, name: QuantizedName, shape: readonly [number, number]) {
  const [rows, columns] = shape;
  const given = randomArray(rows * columns, 7).map((v, i) => v * (1 + Math.floor(i / 64) % 5));
  const operand = encoded(gpu, name, given, shape);
  return { operand, values: await decoded(gpu, operand) };
}

/** Lengths of the rows of W + B·A, or with `ofColumns` those of the columns of W + (B·A)ᵀ. */
function lengths(
  { w, a, b, ofColumns }: Record<"w" | "a" | "b", Float64Array> & { ofColumns: boolean },
  [rows, columns, rank]: readonly [number, number, number],
): Float64Array {
  const squares = new Float64Array(ofColumns ? columns : rows);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      let value = w[i * columns + j];
      for (let k = 0; k < rank; k++) {
        value += ofColumns
          ? b[j * rank + k] * a[k * rows + i]
          : b[i * rank + k] * a[k * columns + j];
      }
      squares[ofColumns ? j : i] += value ** 2;
    }
  }
  return squares.map(Math.sqrt);
}

for (const name of QUANTIZED) {
  gpuTest(`embeddings look up rows of ${name} to the bit`, async (gpu) => {
    const columns = columnsFor(name), ids = [0, 36, 5, 0, 17];
    const { operand: table, values } = await weight(gpu, name, [37, columns]);
    const y = poisoned(gpu, "f32", [ids.length + 1, columns]);
    const tokens = upload(gpu, ids, "u32", [ids.length]);
    embedding(gpu, { table, ids: tokens, y, rows: ids.length });
    const rows = ids.flatMap((id) => [...values.subarray(id * columns, (id + 1) * columns)]);
    const found = await download(gpu, y);
    assertSameValues(found.subarray(0, rows.length), Float64Array.from(rows, Math.fround), name);
    assert.ok(found.subarray(rows.length).every(Number.isNaN));
  });

  gpuTest(`DoRA's factors of a layer and of an embedding in ${name}`, async (gpu) => {
    const rows = 36, columns = columnsFor(name), rank = 8;
    const { operand, values: w } = await weight(gpu, name, [rows, columns]);
    for (const ofColumns of [false, true]) {
      const [inputs, outputs] = ofColumns ? [rows, columns] : [columns, rows];
      const a = quantize(randomArray(rank * inputs, 1), "f32");
      const b = quantize(randomArray(rank * outputs, 2), "f32");
      const m = quantize(randomArray(outputs, 3), "f32");
      const norm = poisoned(gpu, "f32", [outputs]), factor = poisoned(gpu, "f32", [outputs]);
      (ofColumns ? embeddingDoraFactors : doraFactors)(gpu, {
        weight: operand,
        a: upload(gpu, a, "f32", [rank, inputs]),
        b: upload(gpu, b, "f32", [outputs, rank]),
        magnitude: upload(gpu, m, "f32", [outputs]),
        scale: 1,
        norm,
        factor,
      });
      const expected = lengths({ w, a, b, ofColumns }, [rows, columns, rank]);
      const limits = { atol: 0, rtol: 3e-6, what: `${ofColumns}` };
      assertClose(await download(gpu, norm), expected, limits);
      assertClose(await download(gpu, factor), expected.map((n, i) => m[i] / n), limits);
    }
  });

  gpuTest(`rows of a weight in ${name}, and several weights as one`, async (gpu) => {
    // Of nf4 as many values as begin at a multiple of the bytes that bindings do.
    const [columns, height] = name === "nf4" ? [1024, 512] : [columnsFor(name), 256];
    const kind = weightKind(name), m = 3, heights = [height, height, 36];
    const shapes = heights.map((rows) => [rows, columns]);
    const specs = shapes.flatMap((shape, weight) =>
      planeTensors(kind, shape).map((spec, plane) => ({ ...spec, weight, plane }))
    ).sort((x, y) => x.plane - y.plane);
    const tensors = gpu.memory.arena(
      "parameter",
      "weights",
      specs.map(({ suffix, dtype, shape, weight }) => ({
        name: `${weight}${suffix}`,
        dtype,
        shape,
      })),
    );
    const operands = shapes.map((shape, weight) =>
      new WeightOperand(kind, shape, tensors.filter((_, i) => specs[i].weight === weight))
    );
    const values = new Float64Array((2 * height + 36) * columns);
    for (const [seed, operand] of operands.entries()) {
      const given = upload(gpu, randomArray(operand.values, seed), "f32", operand.shape);
      encodeWeight(gpu, operand, given);
      values.set(await decoded(gpu, operand), seed * height * columns);
    }
    const a = quantize(randomArray(m * columns, 4), "f32");
    const A = upload(gpu, a, "f32", [m, columns]);
    const check = async (operand: WeightOperand, from: number, what: string) => {
      const [n] = operand.shape, c = poisoned(gpu, "f32", [m, n]);
      matmul(gpu, { orientation: "nt", a: A, b: operand, c, rows: m, operands: "f32" });
      const expected = Float64Array.from({ length: m * n }, (_, at) => {
        const i = Math.floor(at / n), row = from + at % n;
        let sum = 0;
        for (let k = 0; k < columns; k++) sum += a[i * columns + k] * values[row * columns + k];
        return sum;
      });
      assertClose(await download(gpu, c), expected, { atol: 1e-4, rtol: 1e-5, what });
    };
    await check(operands[1], height, "second");
    const packed = packOperands(operands);
    assert.ok(packed);
    assert.deepEqual(packed.shape, [2 * height + 36, columns]);
    await check(packed, 0, "packed");
    await check(packed.rows(height, height + 36), height, "rows of the packed weight");
    gpu.free(tensors[0]);
  });

  gpuTest(`a weight in ${name} that is bound in parts`, async (gpu) => {
    const shape = [2048, 512] as const, [rows, columns] = shape, m = 3, rank = 4;
    const a = quantize(randomArray(m * columns, 4), "f32"), dy = randomArray(m * rows, 5);
    const results = async (gpu: Gpu) => {
      const { operand: b } = await weight(gpu, name, shape);
      const c = poisoned(gpu, "f32", [m, rows]), dx = poisoned(gpu, "f32", [m, columns]);
      // Sums of parts of K would not fit a binding of this device.
      const common = (orientation: "nt" | "nn") => {
        const tile = allTiles({ software: gpu.software, operands: "f32", orientation })[0];
        return {
          orientation,
          rows: m,
          operands: "f32",
          b,
          geometry: { ...tile, splits: 1 },
        } as const;
      };
      matmul(gpu, { a: upload(gpu, a, "f32", [m, columns]), c, ...common("nt") });
      matmul(gpu, { a: upload(gpu, dy, "f32", [m, rows]), c: dx, ...common("nn") });
      const [norm, factor] = [rows, rows].map((size) => poisoned(gpu, "f32", [size]));
      doraFactors(gpu, {
        weight: b,
        a: upload(gpu, randomArray(rank * columns, 1), "f32", [rank, columns]),
        b: upload(gpu, randomArray(rank * rows, 2), "f32", [rows, rank]),
        magnitude: upload(gpu, randomArray(rows, 3), "f32", [rows]),
        scale: 1,
        norm,
        factor,
      });
      return {
        parts: b.ranges(gpu.maxBinding).length,
        c: await download(gpu, c),
        dx: await download(gpu, dx),
        factor: await download(gpu, factor),
      };
    };
    const whole = await results(gpu);
    assert.equal(whole.parts, 1);
    await withMaxBinding(name === "int8" ? 400_000 : 280_000, async (small) => {
      const split = await results(small);
      assert.ok(split.parts > 1, `${split.parts} parts`);
      assertClose(split.factor, whole.factor, { atol: 0, rtol: 1e-5, what: "factor" });
      assertClose(split.c, whole.c, { atol: 1e-4, rtol: 1e-5, what: "c" });
      assertClose(split.dx, whole.dx, { atol: 1e-3, rtol: 1e-5, what: "dx" });
    });
  });
}
