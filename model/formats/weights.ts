/**
 * Where a model's weights come from.
 *
 * @module
 */

import { type ModelConfig, weightShapes } from "../families/config.ts";

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

/** What is stored under a weight's name. */
export interface WeightInfo {
  dtype: FileDtype;
  shape: number[];
  /** The tensor's whole size. */
  bytes: number;
  /** The type that the file has it in, where the file has another name for it or reading converts it. */
  stored?: string;
}

/** Bytes of one tensor that a quantised weight is held in. */
export interface Plane {
  readonly bytes: number;
  /** Fills `target` from byte `begin` on. Several calls may be under way at once. */
  readonly read: (begin: number, target: Uint8Array) => Promise<void>;
}

/** A weight that its file has as kernels read it (kernels/ops/weights/kinds.ts). */
export interface QuantizedWeight {
  /** The name of the kind. */
  readonly kind: string;
  /** The bytes of the kind's planes, in order. */
  readonly planes: readonly Plane[];
}

/** A model's weights, any bytes of any tensor at a time. */
export interface WeightSource {
  readonly config: ModelConfig;
  /** What is stored under a name of `weightShapes(config)`. */
  info(name: string): WeightInfo;
  /**
   * Fills `target` with the tensor's raw little-endian bytes from byte `begin` on. Several calls may
   * be under way at once.
   *
   * @throws UserError where the file can't be read, RangeError for bytes that the tensor doesn't have.
   */
  read(name: string, begin: number, target: Uint8Array): Promise<void>;
  /** A weight as kernels read it quantised; undefined where they can't. `info` and `read` are of its values. */
  quantized(name: string): QuantizedWeight | undefined;
  /** Closes files. Nothing may be read afterwards. */
  close(): void;
}

/** A weight in a file: what a {@linkcode WeightSource} says of it, and how its bytes are read. */
export interface StoredWeight {
  readonly info: Readonly<WeightInfo>;
  read(begin: number, target: Uint8Array): Promise<void>;
  readonly quantized?: QuantizedWeight;
}

/** The weights that were found at a path, by name. */
export function weightSource(
  path: string,
  { config, weights, close }: {
    config: ModelConfig;
    weights: ReadonlyMap<string, StoredWeight>;
    close: () => void;
  },
): WeightSource {
  const find = (name: string): StoredWeight => {
    const weight = weights.get(name);
    if (weight === undefined) throw new RangeError(`${path} has no weight "${name}"`);
    return weight;
  };
  return {
    config,
    info(name) {
      const { info } = find(name);
      return { ...info, shape: [...info.shape] };
    },
    read: (name, begin, target) => find(name).read(begin, target),
    quantized: (name) => find(name).quantized,
    close,
  };
}

/** The type in which a file holds a weight whose values are computed from codes; undefined where they are its elements. */
export function quantizedType({ stored, dtype }: WeightInfo): string | undefined {
  return stored === dtype ? undefined : stored;
}

/** A type, and how many weights are of it. */
export type TypeCount = [type: string, count: number];

/** How often each type occurs, the most frequent first. */
export function countTypes(types: Iterable<string>): TypeCount[] {
  const counts = new Map<string, number>();
  for (const type of types) counts.set(type, (counts.get(type) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a);
}

/** Counted types in words. */
export function listTypes(types: readonly TypeCount[]): string {
  return types.map(([type, count]) => `${count} in ${type}`).join(", ");
}

/** The types in which files hold weights whose values are computed from codes; none of random weights. */
export function quantizedTypes(weights: WeightSource | undefined): TypeCount[] {
  if (weights === undefined) return [];
  const names = [...weightShapes(weights.config).keys()];
  return countTypes(names.flatMap((name) => quantizedType(weights.info(name)) ?? []));
}

/** Whether two shapes are the same. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}
