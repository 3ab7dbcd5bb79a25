/**
 * Gradient checkpointing as a table: which activations of which block are kept, and where.
 *
 * A block that keeps nothing but its segment's input runs forward again before its backward. Nothing
 * else in the model knows which mode is on.
 *
 * Source of the √n choice: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
 *
 * @module
 */
import { UsageError } from "../../kernels/errors.ts";

/** Blocks that are kept or recomputed together. */
export interface Segment {
  first: number;
  count: number;
}

/** Where each block's activations live: indexes into three sets of buffers. */
export interface ActivationPlan {
  segments: Segment[];
  /** Residual stream before block b, and after the last block (length blocks + 1). */
  residual: number[];
  /** Queries, keys, values and the attention's output of block b. */
  attention: number[];
  /** Everything else a block's backward needs. */
  inner: number[];
  /** How many buffers each set holds. */
  counts: { residual: number; attention: number; inner: number };
  /** Attention runs forward again before a block's backward, the rest of the block doesn't. */
  recomputeAttention: boolean;
}

/** The largest index plus one. */
const buffers = (indexes: number[]) => Math.max(...indexes) + 1;

function planOf(blocks: number, segmentLength: number, sharedAttention: boolean): ActivationPlan {
  const segments: Segment[] = [];
  for (let first = 0; first < blocks; first += segmentLength) {
    segments.push({ first, count: Math.min(segmentLength, blocks - first) });
  }
  const blockIndexes = Array.from({ length: blocks }, (_, b) => b);
  const slot = blockIndexes.map((b) => b % segmentLength);
  // Segment inputs come first, then the inputs of the other blocks of a segment, then the result.
  const residual = blockIndexes.map((b) =>
    slot[b] === 0 ? b / segmentLength : segments.length + slot[b] - 1
  );
  residual.push(buffers(residual));
  const attention = sharedAttention ? blockIndexes.map(() => 0) : slot;
  return {
    segments,
    residual,
    attention,
    inner: slot,
    counts: {
      residual: buffers(residual),
      attention: buffers(attention),
      inner: buffers(slot),
    },
    recomputeAttention: sharedAttention,
  };
}

/**
 * The plan of a checkpointing mode: `none`, `block` (every block), `sqrt` (every ⌈√n⌉ blocks),
 * `every:k`, `attention` (only what is inside attention).
 *
 * @throws {UserError} for any other mode.
 */
export function activationPlan(mode: string, blocks: number): ActivationPlan {
  if (mode === "none") return planOf(blocks, blocks, false);
  if (mode === "attention") return planOf(blocks, blocks, true);
  if (mode === "block") return planOf(blocks, 1, false);
  if (mode === "sqrt") return planOf(blocks, Math.ceil(Math.sqrt(blocks)), false);
  const every = /^every:([1-9]\d*)$/.exec(mode);
  if (every) return planOf(blocks, Math.min(blocks, Number(every[1])), false);
  throw new UsageError(
    `checkpointing "${mode}" is unknown; expected none, block, sqrt, every:k or attention`,
  );
}

/** The plan of passes that no backward follows: every block works in the same buffers. */
export function inferencePlan(blocks: number): ActivationPlan {
  const zeros = Array.from({ length: blocks }, () => 0);
  return {
    segments: [{ first: 0, count: blocks }],
    residual: [...zeros, 0],
    attention: zeros,
    inner: zeros,
    counts: { residual: 1, attention: 1, inner: 1 },
    recomputeAttention: false,
  };
}
