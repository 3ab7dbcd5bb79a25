/**
 * What the passes of a model run through: its ends and blocks, assembled out of parameters.
 *
 * @module
 */
import type { Memory } from "../../kernels/gpu/memory.ts";
import { makeBlock, makeOutput, type Parts } from "./assemble.ts";
import type { Block } from "./block.ts";
import { InputEnd } from "./input_end.ts";
import type { RopeTables } from "./layers.ts";
import type { PackedLinear } from "./packed_linear.ts";
import { type Parameter, parameterOf } from "./parameters.ts";

/** What passes run through. */
export interface Network {
  input: InputEnd;
  blocks: readonly Block[];
  /** The norm after the last block, and the output projection. */
  norm: Parameter;
  output: PackedLinear;
}

/** What the layers of a network share. */
export interface NetworkOptions {
  /** Most tokens of a pass. */
  tokens: number;
  ropeTables: RopeTables;
  /** Windows of the layers, each once. */
  slidingWindows: readonly (number | null)[];
}

/** Assembles a network; of memory it takes what adapters of the input end need. */
export function makeNetwork(
  memory: Memory,
  parts: Parts,
  { tokens, ropeTables, slidingWindows }: NetworkOptions,
): Network {
  const input = new InputEnd(memory, parts, tokens);
  const blocks = parts.spec.layers.map(({ rope, window }, layer) =>
    makeBlock(layer, parts, {
      rope: ropeTables.of(rope),
      keyRanges: slidingWindows.indexOf(window),
    })
  );
  return {
    input,
    blocks,
    norm: parameterOf(parts.weights, "model.norm.weight"),
    output: makeOutput(parts, input.table),
  };
}
