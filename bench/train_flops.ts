/**
 * The arithmetic that a training step needs, whatever a program makes of it: what is computed again for
 * checkpointing, or on padding, is not counted.
 *
 * With T tokens, S targets, P pairs of a query and a key that it attends to, L blocks of N parameters in
 * their linear layers, of which N₁ make q, k and v, hidden size H, vocabulary V, heads of D:
 *  - forward: 2·T·N·L for the linear layers, 4·P·heads·D·L for attention (scores, and values weighted by
 *    them), 2·S·H·V for the logits;
 *  - backward: the same for the inputs of linear layers, but with LoRA not below the first adapters (the input
 *    of q, k and v in the first block); twice the forward for attention (gradients of q, k, v and the weights); the
 *    same for the input of the logits;
 *  - full fine-tuning: the gradients of the weights, 2·T·N·L for the linear layers and 2·S·H·V for the logits';
 *  - an adapter of rank r from n inputs to m outputs: 2·T·r·(n + m) forward, 4·T·r·(n + m) backward (both
 *    matrices' gradients, and those of what goes into them), but not the input's, 2·T·r·n, in the first block.
 *
 * Norms, activations, softmax, the embedding and the optimizer are left out: with LLaMA-2 7B's shapes they are
 * below 1 %.
 *
 * @module
 */
import { archSpec, type ModelConfig, withLayers } from "../model/families/config.ts";
import { adapterShapes } from "../model/adapter/adapter_folder.ts";

/** What a step works on. */
export interface StepWork {
  /** Tokens of each document. */
  documents: readonly number[];
  /** Leading tokens of documents that another one's rows serve for, which are not computed again. */
  shared?: readonly number[];
  /** Tokens whose loss counts. */
  targets: number;
  /** False: all weights are trained. */
  lora: { rank: number; targets: string | readonly string[] } | false;
}

/** Pairs of a query and a key at or before it, inside documents and the model's window. */
export function documentPairs(documents: readonly number[], window: number | null): number {
  return documents.reduce((sum, tokens) => {
    const full = Math.min(tokens, window ?? tokens);
    return sum + full * (full + 1) / 2 + (tokens - full) * full;
  }, 0);
}

/** Floating-point operations of one forward and backward pass. */
export function trainingFlops(
  config: ModelConfig,
  { documents, shared = [], targets, lora }: StepWork,
): number {
  const { hidden_size: hidden, num_hidden_layers: blocks, head_dim } = config;
  const heads = config.num_attention_heads, kvHeads = config.num_key_value_heads;
  const sum = (lengths: readonly number[]) => lengths.reduce((sum, length) => sum + length, 0);
  const tokens = sum(documents) - sum(shared);
  // Summed over the blocks, whose windows may differ.
  const pairs = sum(
    archSpec(config).layers.map(({ window }) =>
      documentPairs(documents, window) - documentPairs(shared, window)
    ),
  );
  const qkv = hidden * (heads + 2 * kvHeads) * head_dim;
  const linear = qkv + hidden * heads * head_dim + 3 * hidden * config.intermediate_size;
  const attention = 4 * pairs * heads * head_dim;
  const logits = 2 * targets * hidden * config.vocab_size;
  const forward = 2 * tokens * linear * blocks + attention + logits;
  const backward = forward + attention;
  if (!lora) return forward + backward + 2 * tokens * linear * blocks + logits;

  const one = withLayers(config, 1, "the model");
  const shapes = adapterShapes(one, { r: lora.rank, target_modules: lora.targets });
  let elements = 0, inputs = 0;
  for (const [name, [height, width]] of shapes) {
    elements += height * width;
    if (name.endsWith("lora_A.weight")) inputs += height * width;
  }
  return forward + backward - 2 * tokens * qkv +
    6 * tokens * elements * blocks - 2 * tokens * inputs;
}
