/**
 * Which type each matrix of a GGUF file is written in: as llama.cpp's quantiser chooses (src/llama-quant.cpp).
 *
 * @module
 */

import type { ModelConfig } from "../../families/config.ts";
import type { FileDtype } from "../weights.ts";
import { EMBEDDING, OUTPUT } from "./names.ts";
import type { WrittenBlocks } from "./quantize.ts";
import { blockElements } from "./tensor_types.ts";

/** What most matrices of a file are in; Q4_K_M is a mix of Q4_K and Q6_K. */
export type GgufFormat = FileDtype | "Q8_0" | "Q4_0" | "Q4_K_M";

/** Whether numbers of a format are in blocks. */
export function isBlocks(
  format: GgufFormat | undefined,
): format is Exclude<GgufFormat, FileDtype> {
  return format === "Q8_0" || format === "Q4_0" || format === "Q4_K_M";
}

/** Layers that get more bits: the first and the last eighth, and every third between. */
function getsMoreBits(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor(7 * layers / 8) || (layer - eighth) % 3 === 2;
}

/** A matrix of a block in Q4_K_M. */
function mixedType(name: string, config: ModelConfig): WrittenBlocks {
  const { num_hidden_layers: layers, num_attention_heads, num_key_value_heads } = config;
  const [, layer, matrix] = /^blk\.(\d+)\.(.+)\.weight$/.exec(name) ?? [];
  if (matrix === "attn_qkv") return "Q5_K";
  if (matrix !== "attn_v" && matrix !== "ffn_down") return "Q4_K";
  if (getsMoreBits(Number(layer), layers)) return "Q6_K";
  // LLaMA-2 70B's values are an eighth of its queries.
  const isShared = layers === 80 && num_attention_heads !== num_key_value_heads;
  return matrix === "attn_v" && isShared ? "Q5_K" : "Q4_K";
}

/** The type where rows are whole blocks of 256. */
function wantedType(name: string, format: GgufFormat, config: ModelConfig): WrittenBlocks {
  if (format === "Q8_0") return format;
  // The matrix that logits come from.
  if (name === (config.tie_word_embeddings ? EMBEDDING : OUTPUT)) return "Q6_K";
  return format === "Q4_0" ? format : mixedType(name, config);
}

/** Types for rows that are whole blocks of 32 alone. */
const FALLBACKS: Partial<Record<WrittenBlocks, WrittenBlocks>> = {
  Q4_K: "Q5_0",
  Q5_K: "Q5_0",
  Q6_K: "Q8_0",
};

/**
 * The type of blocks that a tensor is written in; undefined where it is not quantised: vectors are not, nor are rows that no
 * block divides.
 *
 * @param name GGUF's.
 * @param shape Row-major.
 */
export function blockType(
  { name, shape }: { name: string; shape: readonly number[] },
  format: GgufFormat | undefined,
  config: ModelConfig,
): WrittenBlocks | undefined {
  if (!isBlocks(format) || shape.length !== 2) return undefined;
  const wanted = wantedType(name, format, config);
  return [wanted, FALLBACKS[wanted]].find((type) =>
    type !== undefined && shape[1] % blockElements(type) === 0
  );
}
