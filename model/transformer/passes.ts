/**
 * The passes of a model through its blocks, from the tokens to what the output end reads, and back.
 *
 * @module
 */
import { Tensor } from "../../kernels/gpu/tensor.ts";
import { cast } from "../../kernels/ops/elements/cast.ts";
import { trainsBlock } from "./assemble.ts";
import type { Block, BlockPass, NextNorm } from "./block.ts";
import { blockInference, inferInputNorm, type InferPass } from "./block_inference.ts";
import {
  blockBackward,
  blockForward,
  inputNorm,
  roundedResidual,
  type TrainPass,
} from "./block_training.ts";
import type { HeadInput } from "./head.ts";
import type { Network } from "./network.ts";
import type { DropoutState } from "./packed_linear.ts";

/** Whether the blocks of a network differ in nothing that decides about programs. */
const uniform = new WeakMap<readonly Block[], boolean>();

function areUniform(blocks: readonly Block[]): boolean {
  let known = uniform.get(blocks);
  if (known === undefined) {
    const [first, ...others] = blocks.map(shapeOf);
    uniform.set(blocks, known = others.every((other) => other === first));
  }
  return known;
}

/** All of a block but its values and its place. */
function shapeOf(block: Block): string {
  return JSON.stringify(block, (key, value) => {
    if (value instanceof Tensor) return [value.dtype, ...value.shape];
    if (key === "subsequence") return undefined;
    return typeof value === "string" ? value.replace(/\blayers\.\d+\./, "") : value;
  });
}

/** Whether a block would only launch what block 1 does, while programs are listed: neither the first nor the last. */
function repeats({ gpu }: BlockPass, blocks: readonly Block[], b: number): boolean {
  return gpu.pipelines.listed !== undefined && b > 1 && b < blocks.length - 1 &&
    areUniform(blocks);
}

/** How the loss of a micro-batch is taken. */
export interface LossOptions {
  backward: boolean;
  /** Default: nothing is dropped out. */
  dropout?: DropoutState;
  /**
   * Whether the last pass scored the same documents with the adapter and the same dropout: it left behind what the forward part
   * of this one would. Default false.
   */
  passed?: boolean;
}

/**
 * A pass that keeps what backward reads.
 *
 * @param passed Whether it was the last thing to run, so that it is there.
 */
export function forwardPass(
  { input, blocks, norm, output }: Network,
  pass: TrainPass,
  passed = false,
): HeadInput & { index: Tensor } {
  const { gpu, batch, dropout, operands, activations: { plan, residual } } = pass;
  const residualAt = (b: number) => residual[plan.residual[b]];
  if (!passed) {
    input.forward(gpu, batch, residualAt(0));
    blocks.forEach((block, b) => {
      if (plan.segments.length === 1 && repeats(pass, blocks, b)) return;
      const next = normAfter(blocks, pass, b), normed = b > 0;
      blockForward(pass, block, b, { x: residualAt(b), y: residualAt(b + 1), normed, next });
    });
  }
  const { targetRows: index, targetCount: rows } = batch, x = residualAt(blocks.length);
  return { x, index, rows, norm, output, operands, dropout };
}

/**
 * A pass that no backward follows: the residual stream stays in one buffer.
 *
 * @param gathered Where the residual stream of output rows goes `[rows, hidden]` f32.
 */
export function inferencePass(
  { input, blocks, norm, output: projection }: Network,
  pass: InferPass,
  gathered: Tensor,
): HeadInput {
  const { gpu, batch, dropout, operands, activations: { residual: x, outputRows } } = pass;
  const { targetRows: index, targetCount: rows, tokens, allTargets } = batch;
  const rowAdapters = allTargets ? pass.rowAdapters : pass.outputAdapters;
  const output = outputRows !== null && rows < tokens
    ? { index, rows, x: gathered, out: outputRows, rowAdapters }
    : undefined;
  input.forward(gpu, batch, x);
  blocks.forEach((block, b) => {
    if (repeats(pass, blocks, b)) return;
    const after = blocks.at(b + 1);
    if (after === undefined) return blockInference(pass, block, b, x, { output });
    blockInference(pass, block, b, x, { next: inferInputNorm(pass, after) });
  });
  const common = { rows, norm, output: projection, operands, dropout, rowAdapters };
  if (output !== undefined) return { ...common, x: output.x };
  return { ...common, x, index: allTargets ? undefined : index };
}

/** The norm at the start of the block after block `b`, if there is one. */
function normAfter(blocks: readonly Block[], pass: TrainPass, b: number): NextNorm | undefined {
  const next = blocks.at(b + 1);
  return next && inputNorm(pass, next, b + 1);
}

/** The gradients of what is trained, from that of the last residual stream. */
export function backwardPass({ input, blocks }: Network, pass: TrainPass): void {
  const { plan, residual, backward } = pass.activations;
  // Below the lowest block with something to train backward has nothing to do.
  const found = input.isTrained ? 0 : blocks.findIndex(trainsBlock);
  const lowest = found < 0 ? blocks.length : found;
  const lastSegment = plan.segments.length - 1;
  const rounded = roundedResidual(pass);
  if (rounded !== undefined) {
    cast(pass.gpu, { x: backward.residual, y: rounded, rows: pass.batch.tokens });
  }
  for (let s = lastSegment; s >= 0; s--) {
    const { first, count } = plan.segments[s];
    const last = first + count - 1;
    if (last < lowest) break;
    // The last segment's activations are those of the forward pass just done.
    for (let b = first; s < lastSegment && b <= last; b++) {
      const [x, next] = [residual[plan.residual[b]], residual[plan.residual[b + 1]]];
      const [y, following] = b < last ? [next, normAfter(blocks, pass, b)] : [];
      blockForward(pass, blocks[b], b, { x, y, normed: b > first, next: following });
    }
    for (let b = last; b >= Math.max(first, lowest); b--) {
      if (plan.segments.length === 1 && repeats(pass, blocks, b)) continue;
      const x = residual[plan.residual[b]];
      blockBackward(pass, blocks[b], b, {
        x,
        inputGradient: b > lowest || input.isTrained,
      });
    }
  }
  input.backward(pass.gpu, pass.batch, backward.residual);
}
