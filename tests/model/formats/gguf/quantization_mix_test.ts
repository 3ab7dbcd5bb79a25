/** Which type each matrix is quantised to: llama.cpp's choice for the same models, which was compared file by file. */
import assert from "node:assert/strict";
import { presetConfig } from "../../../../model/families/presets.ts";
import { blockType } from "../../../../model/formats/gguf/quantization_mix.ts";

const LLAMA_7B = presetConfig("llama2-7b"), LLAMA_70B = presetConfig("llama2-70b");

Deno.test("gguf: Q4_K_M has Q6_K for half of the values and down projections, and for the output", () => {
  const typeOf = (name: string) => blockType({ name, shape: [64, 4096] }, "Q4_K_M", LLAMA_7B);
  const layers = Array.from({ length: 32 }, (_, layer) => layer);
  for (const matrix of ["attn_v", "ffn_down"]) {
    const more = layers.filter((layer) => typeOf(`blk.${layer}.${matrix}.weight`) === "Q6_K");
    assert.deepEqual(more, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
    assert.equal(typeOf(`blk.4.${matrix}.weight`), "Q4_K");
  }
  for (const matrix of ["attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up"]) {
    assert.equal(typeOf(`blk.0.${matrix}.weight`), "Q4_K");
  }
  assert.equal(typeOf("output.weight"), "Q6_K");
  assert.equal(typeOf("token_embd.weight"), "Q4_K");
  const tied = { ...LLAMA_7B, tie_word_embeddings: true };
  const embedding = { name: "token_embd.weight", shape: [64, 4096] };
  assert.equal(blockType(embedding, "Q4_K_M", tied), "Q6_K");
  assert.equal(blockType(embedding, "Q4_0", tied), "Q6_K");
  const values = { name: "blk.10.attn_v.weight", shape: [64, 8192] };
  assert.equal(blockType(values, "Q4_K_M", LLAMA_70B), "Q5_K");
  // Queries, keys and values in one.
  const fused = { name: "blk.10.attn_qkv.weight", shape: [64, 3072] };
  assert.equal(blockType(fused, "Q4_K_M", presetConfig("phi4-mini")), "Q5_K");
});

Deno.test("gguf: rows that are no whole blocks of 256 have others of 32, or none", () => {
  const typeOf = (name: string, columns: number) =>
    blockType({ name, shape: [8, columns] }, "Q4_K_M", LLAMA_7B);
  assert.equal(typeOf("blk.0.attn_q.weight", 96), "Q5_0");
  assert.equal(typeOf("blk.0.attn_v.weight", 96), "Q8_0");
  assert.equal(typeOf("blk.0.attn_v.weight", 40), undefined);
  assert.equal(blockType({ name: "output.weight", shape: [8, 96] }, "Q4_0", LLAMA_7B), "Q8_0");
  assert.equal(
    blockType({ name: "blk.0.attn_norm.weight", shape: [256] }, "Q4_K_M", LLAMA_7B),
    undefined,
  );
});
