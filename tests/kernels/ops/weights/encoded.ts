/** Weights of any kind, made on the GPU and read back on the host. */
import { DYNAMIC_MAP, NF4_VALUES } from "../../../../kernels/ops/weights/nf4_values.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { weightKind } from "../../../../kernels/ops/weights/kinds.ts";
import {
  encodeWeight,
  makeOperand,
  type WeightOperand,
} from "../../../../kernels/ops/weights/operand.ts";
import { poisoned, upload } from "../../harness.ts";

/** The kinds that hold codes instead of values. */
export const QUANTIZED = ["int8", "int8_rows", "nf4", "nf4_f32"] as const;
/** One of {@linkcode QUANTIZED}. */
export type QuantizedName = typeof QUANTIZED[number];

/** A matrix `[rows, columns]` of these values in a kind. */
export function encoded(
  gpu: Gpu,
  name: string,
  values: ArrayLike<number>,
  [rows, columns]: readonly [number, number],
): WeightOperand {
  const kind = weightKind(name), shape = [rows, columns];
  const operand = makeOperand(kind, shape, ({ dtype, shape }) => poisoned(gpu, dtype, shape));
  encodeWeight(gpu, operand, upload(gpu, values, "f32", shape));
  return operand;
}

/** The bytes of each of a weight's tensors. */
export async function planesOf(gpu: Gpu, { tensors }: WeightOperand): Promise<ArrayBuffer[]> {
  const planes: ArrayBuffer[] = [];
  for (const tensor of tensors) planes.push(await gpu.read(tensor));
  return planes;
}

/** The f32 values that the codes of a weight stand for. */
export async function decoded(gpu: Gpu, operand: WeightOperand): Promise<Float64Array> {
  const [codes, scales] = await planesOf(gpu, operand), { values, columns, kind } = operand;
  const value = valueOf(kind.name as QuantizedName, columns, codes, scales);
  return Float64Array.from({ length: values }, value);
}

function valueOf(
  name: QuantizedName,
  columns: number,
  codes: ArrayBuffer,
  scales: ArrayBuffer,
) {
  if (name === "int8") {
    const q = new Int8Array(codes), d = new Float16Array(scales);
    return (_: unknown, i: number) => q[i] * d[Math.floor(i / 32)];
  }
  if (name === "int8_rows") {
    const q = new Int8Array(codes), d = new Float32Array(scales);
    return (_: unknown, i: number) => q[i] * d[Math.floor(i / columns)];
  }
  const bytes = new Uint8Array(codes), absmax = absmaxOf(name, scales);
  return (_: unknown, i: number) => {
    const code = bytes[i >> 1] >> (i % 2 === 0 ? 4 : 0) & 15;
    return Math.fround(NF4_VALUES[code] * absmax(Math.floor(i / 64)));
  };
}

/** The f32 number of a block. */
export function absmaxOf(name: QuantizedName, scales: ArrayBuffer): (block: number) => number {
  const floats = new Float32Array(scales), bytes = new Uint8Array(scales);
  if (name === "nf4_f32") return (block) => floats[block];
  return (block) => {
    const group = Math.floor(block / 256), at = 264 * group;
    const [factor, offset] = floats.subarray(66 * group + 64);
    return Math.fround(Math.fround(DYNAMIC_MAP[bytes[at + block % 256]] * factor) + offset);
  };
}
