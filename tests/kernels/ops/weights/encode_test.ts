import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import type { RawDtype } from "../../../../kernels/ops/elements/cast.ts";
import { weightKind } from "../../../../kernels/ops/weights/kinds.ts";
import { NF4_MIDPOINTS } from "../../../../kernels/ops/weights/nf4_values.ts";
import {
  encoderOf,
  makeOperand,
  type WeightOperand,
} from "../../../../kernels/ops/weights/operand.ts";
import { withHardwarePrograms } from "../../hardware_programs.ts";
import { assertClose, download, gpuTest, poisoned, randomArray, upload } from "../../harness.ts";
import { planesOf, QUANTIZED } from "./encoded.ts";
import { nf4Planes, quantizeNf4 } from "./nf4_reference.ts";
import { assertSameValues } from "../../../same.ts";

/** Weights of every size: a block of zeros, numbers on the midpoints between codes, rows that end within a block. */
function weights(count: number): Float32Array {
  const values = Float32Array.from(
    randomArray(count, 5),
    (v, i) => v * 2 ** (Math.floor(i / 64) % 9 - 6),
  );
  values.fill(0, 64, 128);
  values.set([1, ...NF4_MIDPOINTS], 128);
  values.fill(0.25, 144, 192);
  return values;
}

const RAW = ["F32", "F16", "BF16"] as const satisfies RawDtype[];

/** The nearest values, or of bf16 near ones, that a file of this type holds. */
function held(values: Float32Array, from: RawDtype): Float32Array {
  if (from === "F32") return values;
  if (from === "F16") return values.map(Math.f16round);
  const bits = new Uint32Array(values.slice().buffer).map((word) => word & 0xffff0000);
  return new Float32Array(bits.buffer);
}

/** Such values as the bytes of that file. */
function bytesOf(values: Float32Array, from: RawDtype): Uint8Array<ArrayBuffer> {
  if (from === "F32") return new Uint8Array(values.slice().buffer);
  if (from === "F16") return new Uint8Array(Float16Array.from(values).buffer);
  const words = new Uint32Array(values.slice().buffer);
  return new Uint8Array(Uint16Array.from(words, (word) => word >>> 16).buffer);
}

/** Encodes values piece by piece, as they come from a file. */
async function encode(
  gpu: Gpu,
  name: string,
  values: Float32Array,
  { columns, from = "F32", piece }: { columns: number; from?: RawDtype; piece: number },
): Promise<WeightOperand> {
  const kind = weightKind(name), shape = [values.length / columns, columns];
  const operand = makeOperand(kind, shape, ({ dtype, shape }) => poisoned(gpu, dtype, shape));
  const encoder = encoderOf(operand);
  const work = poisoned(gpu, "f32", [Math.max(4, encoder.workElements(values.length))]);
  kind.writeTables?.(gpu, operand.tensors);
  for (let first = 0; first < values.length; first += piece) {
    const part = values.subarray(first, first + piece), words = poisoned(gpu, "u32", [piece]);
    gpu.write(words, bytesOf(part, from));
    encoder.encode(gpu, operand.tensors, {
      words,
      from,
      first,
      count: part.length,
      values: values.length,
      work,
    });
  }
  await gpu.check();
  return operand;
}

/** GGUF's Q8_0, written from its description. */
function q8(values: Float32Array): [Uint8Array, Uint8Array] {
  const codes = new Int8Array(values.length), scales = new Float16Array(values.length / 32);
  for (let block = 0; block < scales.length; block++) {
    const part = values.subarray(32 * block, 32 * block + 32);
    const scale = Math.fround(part.reduce((most, v) => Math.max(most, Math.abs(v)), 0) / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    part.forEach((v, i) => {
      const q = Math.fround(v * inverse);
      codes[32 * block + i] = Math.sign(q) * Math.floor(Math.abs(q) + 0.5);
    });
    scales[block] = scale;
  }
  return [new Uint8Array(codes.buffer), new Uint8Array(scales.buffer)];
}

/** Rows of whole blocks, matrices that end within a block, and within eight values of one. */
for (const [rows, columns] of [[130, 192], [130, 176], [5, 52]]) {
  for (const double of [true, false]) {
    const name = double ? "nf4" : "nf4_f32", what = `rows of ${columns}`;
    gpuTest(`${name} has bitsandbytes' codes and scales, ${what}`, async (gpu) => {
      await withHardwarePrograms(gpu, async (gpu) => {
        for (const from of RAW) {
          const values = held(weights(rows * columns), from);
          const operand = await encode(gpu, name, values, { columns, from, piece: 64 * 97 });
          const planes = await planesOf(gpu, operand);
          // The mean of the scales may be rounded otherwise; PyTorch's depends on its order of summing.
          const offset = double ? new Float32Array(planes[1])[65] : undefined;
          const { nested } = quantizeNf4(values, { double });
          if (nested !== undefined) {
            assertClose([offset!], [nested.offset], { atol: 0, rtol: 2 ** -23 });
          }
          const expected = nf4Planes(quantizeNf4(values, { double, offset }));
          for (const [i, plane] of expected.entries()) {
            assertSameValues(new Uint8Array(planes[i], 0, plane.length), plane, `${from} ${i}`);
          }
        }
      });
    });
  }
}

gpuTest("int8 has GGUF's codes and scales, from every type of a file", async (gpu) => {
  for (const from of RAW) {
    const values = held(weights(96 * 35), from);
    const expected = q8(values);
    const operand = await encode(gpu, "int8", values, { columns: 96, from, piece: 64 * 11 });
    const planes = await planesOf(gpu, operand);
    for (const [i, plane] of expected.entries()) {
      assertSameValues(new Uint8Array(planes[i], 0, plane.length), plane, `${from}: plane ${i}`);
    }
  }
});

/** LLM.int8()'s, written from its description. */
function byRows(values: Float32Array, columns: number): [Uint8Array, Uint8Array] {
  const codes = new Int8Array(values.length), scales = new Float32Array(values.length / columns);
  for (let row = 0; row < scales.length; row++) {
    const part = values.subarray(columns * row, columns * (row + 1));
    const most = part.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    const factor = most === 0 ? 0 : Math.fround(127 / most);
    part.forEach((v, i) => {
      const q = Math.fround(v * factor), below = Math.floor(q), rest = q - below;
      const up = rest > 0.5 || (rest === 0.5 && below % 2 !== 0);
      codes[columns * row + i] = below + (up ? 1 : 0);
    });
    scales[row] = most / 127;
  }
  return [new Uint8Array(codes.buffer), new Uint8Array(scales.buffer)];
}

gpuTest("int8_rows has bitsandbytes' codes and scales, from f32 and from f16", async (gpu) => {
  for (const columns of [60, 320]) {
    for (const from of ["F32", "F16"] as const) {
      const values = held(weights(columns * 28), from);
      values.fill(0, 3 * columns, 4 * columns);
      values.set([127, 0.5, 1.5, -2.5, -0.5], 4 * columns); // halves
      const expected = byRows(values, columns);
      const piece = 8 * columns;
      const operand = await encode(gpu, "int8_rows", values, { columns, from, piece });
      const planes = await planesOf(gpu, operand);
      for (const [i, plane] of expected.entries()) {
        assertSameValues(new Uint8Array(planes[i], 0, plane.length), plane, `${from}: plane ${i}`);
      }
      assert.equal(new Uint32Array(planes[2])[0], columns);
    }
  }
});

gpuTest(
  "nested scales that are no finite numbers in their file are flagged, in any group",
  async (gpu) => {
    const operand = await encode(gpu, "nf4", weights(64 * 300), { columns: 64, piece: 64 * 300 });
    // Words of a group: codes of 256 scales, their factor and the mean.
    const words = 66, factor = 64, scales = new Float32Array(await gpu.read(operand.tensors[1]));
    for (const at of [factor, factor + 1, words + factor, words + factor + 1]) {
      for (const [bad, expected] of [[scales[at], 0], [NaN, 1], [-Infinity, 1]]) {
        gpu.write(operand.tensors[1], Float32Array.of(bad), at);
        const flags = upload(gpu, [7, 0, 0, 0], "u32", [4]);
        operand.kind.flagNotFinite(gpu, operand.tensors, { flags, slot: 1 });
        assert.deepEqual([...await download(gpu, flags)], [7, expected, 0, 0], `${bad} at ${at}`);
      }
      gpu.write(operand.tensors[1], scales.subarray(at, at + 1), at);
    }
  },
);

gpuTest("a weight that was no finite number is flagged after it was encoded", async (gpu) => {
  for (const name of QUANTIZED) {
    for (const [bad, expected] of [[0, 0], [NaN, 1], [-Infinity, 1]]) {
      const values = weights(96 * 20);
      values[333] = bad;
      const operand = await encode(gpu, name, values, { columns: 96, piece: 576 });
      const flags = upload(gpu, [7, 0, 0, 0], "u32", [4]);
      operand.kind.flagNotFinite(gpu, operand.tensors, { flags, slot: 1 });
      assert.deepEqual([...await download(gpu, flags)], [7, expected, 0, 0], `${name} ${bad}`);
    }
  }
});
