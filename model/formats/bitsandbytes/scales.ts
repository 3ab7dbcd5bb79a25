/**
 * The scales of 4-bit blocks, as f32 numbers or, with double quantisation, as codes of 8 bits with scales of their own.
 *
 * @module
 */

import { DYNAMIC_MAP, NESTED_BLOCK } from "../../../kernels/ops/weights/nf4_values.ts";
import type { FolderTensors, FoundTensor } from "../folder_tensors.ts";
import type { Scratch } from "../joined.ts";
import { asFloats, piecedBytes } from "../pieced_bytes.ts";
import type { Plane } from "../weights.ts";
import { companion, refuse, someBytes, someFloats, wholeFloats } from "./companions.ts";

/** The scales of a weight's blocks. */
export interface Scales {
  /** Those of `count` blocks from block `first` on, f32. */
  read(first: number, count: number): Promise<Float32Array>;
  /** With double quantisation as kernels know it: the bytes of plane 1 of weights of kind `nf4`. */
  groups?(scratch: Scratch): Plane;
}

/** Finds the scales that are f32 numbers, `[blocks]`. */
export function plainScales(
  tensors: FolderTensors,
  weight: FoundTensor,
  blocks: number,
): Scales {
  const absmax = companion(tensors, weight, {
    name: `${weight.name}.absmax`,
    dtype: "F32",
    shape: [blocks],
  });
  return { read: (first, count) => someFloats(absmax, first, count) };
}

/** What the codes of nested scales stand for: any 256 numbers in order, of which those that PyTorch makes depend on
 * the processor in their last bit. */
function readMap(tensors: FolderTensors, weight: FoundTensor): Float32Array {
  const tensor = companion(tensors, weight, {
    name: `${weight.name}.nested_quant_map`,
    dtype: "F32",
    shape: [256],
  });
  const map = wholeFloats(tensor);
  const isMap = map.every((value, i) => Math.abs(value) <= 1 && (i === 0 || value > map[i - 1]));
  if (!isMap) refuse(tensor, "is no map of codes: expected 256 numbers from -1 to 1 in order");
  return map;
}

/** Finds the scales that double quantisation left, of which `blocksize` share one. */
export function nestedScales(
  tensors: FolderTensors,
  weight: FoundTensor,
  { blocks, blocksize, offset }: { blocks: number; blocksize: number; offset: number },
): Scales {
  const find = (name: string, dtype: string, count: number) =>
    companion(tensors, weight, { name: `${weight.name}.${name}`, dtype, shape: [count] });
  const codes = find("absmax", "U8", blocks);
  const outer = find("nested_absmax", "F32", Math.ceil(blocks / blocksize));
  const map = readMap(tensors, weight);
  const scales: Scales = {
    async read(first, count) {
      const group = Math.floor(first / blocksize);
      const groups = Math.ceil((first + count) / blocksize) - group;
      const [own, shared] = await Promise.all([
        someBytes(codes, first, count),
        someFloats(outer, group, groups),
      ]);
      return Float32Array.from(own, (code, i) => {
        const scale = shared[Math.floor((first + i) / blocksize) - group];
        return Math.fround(map[code] * scale) + offset;
      });
    },
  };
  if (blocksize === NESTED_BLOCK && map.every((value, i) => value === DYNAMIC_MAP[i])) {
    scales.groups = (scratch) => groupedBytes({ codes, outer, offset, blocks }, scratch);
  }
  return scales;
}

/** For each 256 blocks: their codes, zeros for those beyond the last block, their scale and the offset. */
function groupedBytes(
  { codes, outer, offset, blocks }: {
    codes: FoundTensor;
    outer: FoundTensor;
    offset: number;
    blocks: number;
  },
  scratch: Scratch,
): Plane {
  const size = NESTED_BLOCK + 8;
  return piecedBytes({
    count: Math.ceil(blocks / NESTED_BLOCK),
    bytes: size,
    async make(first, out) {
      const count = out.length / size, from = first * NESTED_BLOCK;
      const [own, shared] = await Promise.all([
        someBytes(codes, from, Math.min(blocks - from, count * NESTED_BLOCK)),
        someFloats(outer, first, count),
      ]);
      const floats = asFloats(out);
      for (let group = 0; group < count; group++) {
        const part = own.subarray(group * NESTED_BLOCK, (group + 1) * NESTED_BLOCK);
        out.set(part, group * size);
        out.fill(0, group * size + part.length, group * size + NESTED_BLOCK);
        const at = (group * size + NESTED_BLOCK) / 4;
        floats[at] = shared[group];
        floats[at + 1] = offset;
      }
    },
  }, scratch);
}
