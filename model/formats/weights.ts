/**
 * Where a model's weights come from.
 *
 * @module
 */

import type { ModelConfig } from "../families/config.ts";

/** How weights are stored in a file, in safetensors' names. */
export type FileDtype = "F32" | "F16" | "BF16";

/** Whether a dtype's name is one of those that weights are read in. */
export function isFileDtype(dtype: string): dtype is FileDtype {
  return dtype === "F32" || dtype === "F16" || dtype === "BF16";
}

/** Bytes of one number in a file. */
export function bytesPerElement(dtype: FileDtype): 2 | 4 {
  return dtype === "F32" ? 4 : 2;
}

/** A model's weights, any bytes of any tensor at a time. */
export interface WeightSource {
  readonly config: ModelConfig;
  /**
   * What is stored under a name of `weightShapes(config)`; `bytes` is the tensor's whole size. `stored` is the type that
   * the file has it in, where the file has another name for it or {@linkcode read} converts it.
   */
  info(name: string): { dtype: FileDtype; shape: number[]; bytes: number; stored?: string };
  /**
   * Fills `target` with the tensor's raw little-endian bytes from byte `begin` on. Several calls may
   * be under way at once.
   *
   * @throws UserError where the file can't be read, RangeError for bytes that the tensor doesn't have.
   */
  read(name: string, begin: number, target: Uint8Array): Promise<void>;
  /** Closes files. Nothing may be read afterwards. */
  close(): void;
}

/** Whether two shapes are the same. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}
