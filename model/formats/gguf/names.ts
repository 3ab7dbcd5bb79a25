/**
 * Tensors of a model in GGUF's names, and how their rows lie: where llama.cpp rotates features 2i and 2i + 1 as a pair, as
 * Meta does, the rows of each head of q and k are permuted. Norms multiply by their weights alone there, whatever the
 * specification adds to them.
 *
 * @module
 */

import { archSpec, ggufFamily, type ModelConfig } from "../../families/config.ts";

/** GGUF's name of a module outside the blocks, by Hugging Face's. */
const OUTSIDE: Readonly<Record<string, string>> = {
  "model.embed_tokens": "token_embd",
  "model.norm": "output_norm",
  "lm_head": "output",
};

/** GGUF's name of a linear layer in a block. */
const LINEAR_NAMES: Readonly<Record<string, string>> = {
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.qkv_proj": "attn_qkv",
  "self_attn.o_proj": "attn_output",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.gate_up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
};

export const EMBEDDING = "token_embd.weight", OUTPUT = "output.weight";
/** What RoPE's frequencies are divided by: in texts of all lengths, in short ones, and in long ones. */
export const ROPE_FACTORS = "rope_freqs.weight";
export const SHORT_FACTORS = "rope_factors_short.weight";
export const LONG_FACTORS = "rope_factors_long.weight";
/** Tensors that follow from the metadata, in files of old. */
const DERIVED = /^blk\.\d+\.attn_rot_embd(?:\.weight)?$/;

/** A weight in a GGUF file. */
export interface GgufPlace {
  gguf: string;
  /** Whether the rows of its heads are permuted. */
  permuted: boolean;
  /** What its numbers are more by than in Hugging Face's files. */
  offset: number;
}

/** Where the weights of a model are, by Hugging Face's names. @throws {UserError} where llama.cpp doesn't have its family. */
export function ggufPlaces(config: ModelConfig): (name: string) => GgufPlace {
  const { norms: places, permutesHeads } = ggufFamily(config);
  const { norms, qkNorm, norm } = archSpec(config);
  const inBlock = new Map(Object.entries(LINEAR_NAMES));
  for (const [place, module] of Object.entries(norms)) {
    inBlock.set(module, places[place as keyof typeof places]);
  }
  if (qkNorm !== null) inBlock.set(qkNorm.q, "attn_q_norm").set(qkNorm.k, "attn_k_norm");
  return (name) => {
    const [, layer, module = name, suffix] =
      /^(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(name) ?? [];
    const known = layer === undefined ? OUTSIDE[module] : inBlock.get(module);
    if (known === undefined) throw new RangeError(`GGUF has no name for "${name}"`);
    const block = layer === undefined ? "" : `blk.${layer}.`;
    return {
      gguf: `${block}${known}.${suffix}`,
      permuted: permutesHeads && /[qk]_proj$/.test(module),
      offset: /norm$/.test(module) ? norm.offset : 0,
    };
  };
}

/** Whether a tensor may be in a file though no weight is read from it. */
export function isExpected(gguf: string): boolean {
  return [ROPE_FACTORS, SHORT_FACTORS, LONG_FACTORS].includes(gguf) || DERIVED.test(gguf);
}
