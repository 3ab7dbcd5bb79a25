/**
 * The cost of launches, and the memory that they read and write.
 *
 * @module
 */
import type { Program } from "./program.ts";
import type { Tensor } from "./tensor.ts";

/** Work of one launch, for `--profile`: floating-point operations and bytes moved at least. */
export interface Cost {
  flops: number;
  bytes: number;
}

/** Launches, and the sums of their {@linkcode Cost}s. */
export interface Work extends Cost {
  launches: number;
}

/** The memory that a launch, a copy, a clear or a write reads and writes. */
export interface Use {
  /** The program's name, or `copy`, `clear` or `write`. */
  name: string;
  /** The program's key and the launch's cost; absent where no program ran. */
  launch?: { key: string; cost?: Cost };
  reads: readonly Tensor[];
  /** What is written, in part or whole, and may be read too. */
  writes: readonly Tensor[];
}

/** The memory that a launch of a program reads and writes; tensors in the order of its bindings. */
export function launchUse(
  { name, key, bindings }: Program,
  tensors: readonly Tensor[],
  cost?: Cost,
): Use {
  const of = (access: "read" | "write") => tensors.filter((_, i) => bindings[i].access === access);
  return { name, launch: { key, cost }, reads: of("read"), writes: of("write") };
}
