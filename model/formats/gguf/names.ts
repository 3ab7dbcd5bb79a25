/**
 * Tensors of a Llama in GGUF's names, and how their rows lie: llama.cpp rotates features 2i and 2i + 1 as a pair, as Meta
 * does, so that the rows of each head of q and k are permuted.
 *
 * @module
 */

/** GGUF's name of a module outside the blocks, by Hugging Face's. */
const OUTSIDE: Readonly<Record<string, string>> = {
  "model.embed_tokens": "token_embd",
  "model.norm": "output_norm",
  "lm_head": "output",
};

/** GGUF's name of a module in a block. */
const IN_BLOCK: Readonly<Record<string, string>> = {
  "input_layernorm": "attn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "post_attention_layernorm": "ffn_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
};

export const EMBEDDING = "token_embd.weight", OUTPUT = "output.weight";
/** What RoPE's frequencies are divided by. */
export const ROPE_FACTORS = "rope_freqs.weight";
/** Tensors that follow from the metadata, in files of old. */
const DERIVED = /^blk\.\d+\.attn_rot_embd(?:\.weight)?$/;

/** A weight's name in GGUF, and whether the rows of its heads are permuted there. */
export function ggufName(name: string): { gguf: string; permuted: boolean } {
  const [, layer, module = name, suffix] =
    /^(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(name) ?? [];
  const known = layer === undefined ? OUTSIDE[module] : IN_BLOCK[module];
  if (known === undefined) throw new RangeError(`GGUF has no name for "${name}"`);
  const block = layer === undefined ? "" : `blk.${layer}.`;
  return { gguf: `${block}${known}.${suffix}`, permuted: /[qk]_proj$/.test(module) };
}

/** Whether a tensor may be in a file though no weight is read from it. */
export function isExpected(gguf: string): boolean {
  return gguf === ROPE_FACTORS || DERIVED.test(gguf);
}
