/**
 * What bitsandbytes says of a 4-bit weight, in JSON that fills a tensor of bytes (`QuantState.as_dict`).
 *
 * @module
 */

import { Fields } from "../../files/json_fields.ts";
import { brief, isObject, nestedDeeper } from "../../files/json_file.ts";
import { UTF8 } from "../../files/whole_file.ts";
import type { FoundTensor } from "../folder_tensors.ts";
import { sameShape } from "../weights.ts";
import { refuse, wholeBytes } from "./companions.ts";

/** The 4-bit types. */
export type FourBitType = "nf4" | "fp4";

/** How a weight was quantised. */
export interface QuantState {
  type: FourBitType;
  /** Values that share a scale. */
  blocksize: number;
  /** Double quantisation: scales that share one, and what was subtracted from them all, f32. */
  nested?: { blocksize: number; offset: number };
}

/** It is some 200 bytes long. */
const MOST_BYTES = 1 << 16;

/** Block sizes are powers of two, bitsandbytes' from 32 to 4096. */
const MOST_BLOCK = 1 << 16;

function parse(tensor: FoundTensor): Record<string, unknown> {
  const { dtype, begin, end } = tensor.entry;
  if (dtype !== "U8") refuse(tensor, `has dtype ${dtype}, expected U8: the bytes of a JSON object`);
  if (end - begin > MOST_BYTES) {
    refuse(tensor, `has ${end - begin} bytes, expected at most ${MOST_BYTES}`);
  }
  let json: unknown;
  try {
    const text = UTF8.decode(wholeBytes(tensor));
    if (!nestedDeeper(text, 8)) json = JSON.parse(text);
  } catch {
    // What is no JSON is no object either.
  }
  return isObject(json) ? json : refuse(tensor, "is no JSON object");
}

/**
 * Reads it.
 *
 * @param type The type that the tensor's name ends with.
 * @param shape The weight's.
 * @throws UserError that names the file, the tensor and the field.
 */
export function readQuantState(
  tensor: FoundTensor,
  type: FourBitType,
  shape: readonly number[],
): QuantState {
  const json = parse(tensor);
  const fields = new Fields(json, `${tensor.file.path}: tensor ${brief(tensor.name)}`);
  if (json.quant_type !== type) fields.fail("quant_type", brief(type));
  if (!Array.isArray(json.shape) || !sameShape(json.shape, shape)) {
    fields.fail("shape", `${brief(shape)}, as config.json needs it`);
  }
  const blocksize = (field: string) => {
    const size = fields.count(field, MOST_BLOCK);
    if ((size & (size - 1)) !== 0 || size < 2) fields.fail(field, "a power of two");
    return size;
  };
  const state: QuantState = { type, blocksize: blocksize("blocksize") };
  if (!fields.has("nested_blocksize") && !fields.has("nested_offset")) return state;
  const offset = Math.fround(
    fields.number("nested_offset", (value) => Number.isFinite(Math.fround(value)), "a number"),
  );
  return { ...state, nested: { blocksize: blocksize("nested_blocksize"), offset } };
}
