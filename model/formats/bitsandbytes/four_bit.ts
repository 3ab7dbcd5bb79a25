/**
 * Weights that bitsandbytes quantised to 4 bits: blocks along the flattened matrix, each with a scale and sixteen
 * values in units of it (Dettmers et al. 2023, QLoRA).
 *
 * @module
 */

import { NF4_BLOCK, NF4_VALUES } from "../../../kernels/ops/weights/nf4_values.ts";
import { brief } from "../../files/json_file.ts";
import type { FolderTensors, FoundTensor } from "../folder_tensors.ts";
import type { Scratch } from "../joined.ts";
import { asFloats, piecedBytes } from "../pieced_bytes.ts";
import { dtypeBytes } from "../tensor_file.ts";
import { isFileDtype, type QuantizedWeight, sameShape, type StoredWeight } from "../weights.ts";
import { companion, paddedBytes, refuse, someBytes, wholeFloats } from "./companions.ts";
import { type FourBitType, type QuantState, readQuantState } from "./quant_state.ts";
import { nestedScales, plainScales, type Scales } from "./scales.ts";

/** Magnitudes of FP4 in units of a block's largest: a bit of mantissa, two of exponent, and one subnormal number. */
const FP4_MAGNITUDES = [0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4];

/** What the sixteen codes stand for. */
const VALUES: Readonly<Record<FourBitType, Readonly<Float32Array>>> = {
  nf4: NF4_VALUES,
  fp4: Float32Array.of(...FP4_MAGNITUDES, ...FP4_MAGNITUDES.map((value) => -value)),
};

/** Dtypes that packed codes may be said to have (`bnb_4bit_quant_storage`); a tensor's bytes are the same in all. */
const STORAGE = ["U8", "I8", "F16", "BF16", "F32", "F64"];

/** A weight's codes and how to read them. */
interface FourBit {
  weight: FoundTensor;
  state: QuantState;
  scales: Scales;
  /** Values of the matrix. */
  count: number;
}

/** Which 4-bit type a weight has, and what is said of it; undefined where it isn't quantised. */
function findState(
  tensors: FolderTensors,
  weight: FoundTensor,
): { type: FourBitType; tensor: FoundTensor } | undefined {
  for (const type of ["nf4", "fp4"] as const) {
    const tensor = tensors.find(`${weight.name}.quant_state.bitsandbytes__${type}`);
    if (tensor !== undefined) return { type, tensor };
  }
  const { dtype } = weight.entry;
  if (isFileDtype(dtype) && tensors.find(`${weight.name}.absmax`) === undefined) return undefined;
  const state = `${weight.name}.quant_state.bitsandbytes__nf4`;
  return refuse(
    weight,
    `has dtype ${dtype}, but not ${brief(state)} that says how it is quantised`,
  );
}

/** Codes are a column of whole numbers of whatever dtype, two codes to a byte. */
function checkCodes(weight: FoundTensor, count: number): void {
  const { dtype, shape } = weight.entry, unit = dtypeBytes(dtype);
  if (unit === undefined || !STORAGE.includes(dtype)) {
    refuse(weight, `has dtype ${dtype}, expected one of ${STORAGE.join(", ")} for packed codes`);
  }
  const expected = [Math.ceil(count / 2) / unit, 1];
  if (!sameShape(shape, expected)) {
    refuse(
      weight,
      `has shape ${brief(shape)}, expected ${
        brief(expected)
      } for ${count} codes of 4 bits in ${dtype}`,
    );
  }
}

/** The map of the file is that of its type. */
function checkMap(tensors: FolderTensors, weight: FoundTensor, type: FourBitType): void {
  const tensor = companion(tensors, weight, {
    name: `${weight.name}.quant_map`,
    dtype: "F32",
    shape: [16],
  });
  const values = VALUES[type];
  if (wholeFloats(tensor).every((value, i) => value === values[i])) return;
  refuse(tensor, `has other numbers than the sixteen of ${type}`);
}

/** Two codes to a byte, the first in the high bits, become f32 values as bitsandbytes computes them. */
async function decode(
  { weight, state: { type, blocksize }, scales }: FourBit,
  first: number,
  out: Float32Array,
): Promise<void> {
  const end = first + out.length, block = Math.floor(first / blocksize), from = first >> 1;
  const blocks = Math.ceil(end / blocksize) - block;
  const [codes, own] = await Promise.all([
    someBytes(weight, from, Math.ceil(end / 2) - from),
    scales.read(block, blocks),
  ]);
  const values = VALUES[type], scaled = new Float32Array(16);
  for (let at = first, b = 0; at < end; b++) {
    const last = Math.min(end, (block + b + 1) * blocksize);
    for (let code = 0; code < 16; code++) scaled[code] = values[code] * own[b];
    // A value whose byte it shares with one before or after what is wanted.
    if (at % 2 === 1) out[at++ - first] = scaled[codes[0] & 15];
    for (; at + 1 < last; at += 2) {
      const pair = codes[(at >> 1) - from];
      out[at - first] = scaled[pair >> 4];
      out[at + 1 - first] = scaled[pair & 15];
    }
    if (at < last) out[at++ - first] = scaled[codes[(at >> 1) - from] >> 4];
  }
}

/** The weight as kernels read it; undefined where they can't. */
function quantized(bits: FourBit, scratch: Scratch): QuantizedWeight | undefined {
  const { weight, scales, count, state: { type, blocksize } } = bits;
  if (type !== "nf4" || blocksize % NF4_BLOCK !== 0) return undefined;
  const codes = paddedBytes(weight);
  if (blocksize === NF4_BLOCK && scales.groups !== undefined) {
    return { kind: "nf4", planes: [codes, scales.groups(scratch)] };
  }
  // Larger blocks are several of 64 with the same scale.
  const repeats = blocksize / NF4_BLOCK;
  const absmax = piecedBytes({
    count: Math.ceil(count / NF4_BLOCK),
    bytes: 4,
    async make(first, out) {
      const floats = asFloats(out), from = Math.floor(first / repeats);
      const own = await scales.read(
        from,
        Math.ceil((first + floats.length) / repeats) - from,
      );
      for (let i = 0; i < floats.length; i++) {
        floats[i] = own[Math.floor((first + i) / repeats) - from];
      }
    },
  }, scratch);
  return { kind: "nf4_f32", planes: [codes, absmax] };
}

/**
 * A weight that may be quantised to 4 bits.
 *
 * @param shape What `config.json` says that it has.
 * @returns Undefined where it isn't.
 * @throws UserError that names the file and the tensor.
 */
export function fourBitWeight(
  tensors: FolderTensors,
  weight: FoundTensor,
  shape: readonly number[],
  scratch: Scratch,
): StoredWeight | undefined {
  const found = findState(tensors, weight);
  if (found === undefined) return undefined;
  const state = readQuantState(found.tensor, found.type, shape);
  const count = shape.reduce((product, size) => product * size, 1);
  checkCodes(weight, count);
  checkMap(tensors, weight, state.type);
  const blocks = Math.ceil(count / state.blocksize);
  const scales = state.nested === undefined
    ? plainScales(tensors, weight, blocks)
    : nestedScales(tensors, weight, { blocks, ...state.nested });
  const bits = { weight, state, scales, count };
  const values = piecedBytes({
    count,
    bytes: 4,
    make: (first, out) => decode(bits, first, asFloats(out)),
  }, scratch);
  return {
    info: { dtype: "F32", shape: [...shape], bytes: values.bytes, stored: state.type },
    read: values.read,
    quantized: quantized(bits, scratch),
  };
}
