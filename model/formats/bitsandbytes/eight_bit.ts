/**
 * Weights that bitsandbytes quantised to 8 bits for LLM.int8() (Dettmers et al. 2022): whole numbers, and for each row
 * its largest magnitude, which 127 stands for.
 *
 * @module
 */

import { brief } from "../../files/json_file.ts";
import type { FolderTensors, FoundTensor } from "../folder_tensors.ts";
import type { Scratch } from "../joined.ts";
import { asFloats, piecedBytes } from "../pieced_bytes.ts";
import { isFileDtype, sameShape, type StoredWeight } from "../weights.ts";
import { companion, paddedBytes, refuse, someBytes, someFloats, wholeBytes } from "./companions.ts";

/** 1/127 as bitsandbytes multiplies by it. */
const UNIT = Math.fround(1 / 127);

/** Orders that bitsandbytes before 0.45 may have brought rows into for a GPU, by their number in `weight_format`. */
const ORDERS = ["row", "col32", "col_turing", "col_ampere"];

/** Rows must lie one after the other, as they do where nothing is said. */
function checkOrder(tensors: FolderTensors, module: string): void {
  const tensor = tensors.find(`${module}.weight_format`);
  if (tensor === undefined) return;
  const { dtype, begin, end } = tensor.entry;
  const order = dtype === "U8" && end - begin === 1 ? wholeBytes(tensor)[0] : undefined;
  if (order === 0) return;
  const is = order === undefined ? "is no single byte" : `is ${brief(ORDERS[order] ?? order)}`;
  refuse(tensor, `${is}, expected 0: rows one after the other, as bitsandbytes writes since 0.45`);
}

/**
 * A weight that may be quantised to 8 bits.
 *
 * @param shape What `config.json` says that it has.
 * @returns Undefined where it isn't.
 * @throws UserError that names the file and the tensor.
 */
export function eightBitWeight(
  tensors: FolderTensors,
  weight: FoundTensor,
  shape: readonly number[],
  scratch: Scratch,
): StoredWeight | undefined {
  const module = weight.name.replace(/\.weight$/, ""), name = `${module}.SCB`;
  const { dtype } = weight.entry;
  if (isFileDtype(dtype) && tensors.find(name) === undefined) return undefined;
  if (dtype !== "I8") {
    refuse(weight, `has dtype ${dtype}, expected I8 of a weight with ${brief(name)}`);
  }
  if (!sameShape(weight.entry.shape, shape)) {
    refuse(weight, `has shape ${brief(weight.entry.shape)}, but config.json needs ${brief(shape)}`);
  }
  checkOrder(tensors, module);
  const [rows, columns] = shape;
  const absmax = companion(tensors, weight, { name, dtype: "F32", shape: [rows] });
  const values = piecedBytes({
    count: rows * columns,
    bytes: 4,
    async make(first, out) {
      const floats = asFloats(out), row = Math.floor(first / columns);
      const last = Math.ceil((first + floats.length) / columns);
      const [codes, scales] = await Promise.all([
        someBytes(weight, first, floats.length),
        someFloats(absmax, row, last - row),
      ]);
      const signed = new Int8Array(codes.buffer);
      for (let i = 0; i < floats.length; i++) {
        const scale = scales[Math.floor((first + i) / columns) - row];
        floats[i] = Math.fround(signed[i] * scale) * UNIT;
      }
    },
  }, scratch);
  const scales = piecedBytes({
    count: rows,
    bytes: 4,
    async make(first, out) {
      const floats = asFloats(out);
      const own = await someFloats(absmax, first, floats.length);
      for (let i = 0; i < floats.length; i++) floats[i] = own[i] / 127;
    },
  }, scratch);
  return {
    info: { dtype: "F32", shape: [...shape], bytes: values.bytes, stored: "int8" },
    read: values.read,
    quantized: { kind: "int8_rows", planes: [paddedBytes(weight), scales] },
  };
}
