/** A model of one small block as a GGUF file, without a fault, for tests that put one in. */
import { type TensorToWrite, TYPE_NUMBERS, value, type ValueToWrite } from "./gguf_writer.ts";

const TOKENS = ["<unk>", "<s>", "</s>", "<0x0A>", "\u2581", "a", "b", "ab"];
/** Its metadata. */
export const ENTRIES: [string, ValueToWrite][] = Object.entries({
  "general.architecture": value.text("llama"),
  "llama.block_count": value.u32(1),
  "llama.context_length": value.u32(64),
  "llama.embedding_length": value.u32(32),
  "llama.feed_forward_length": value.u64(32),
  "llama.attention.head_count": value.u32(2),
  "llama.attention.head_count_kv": value.list([value.i32(1)]),
  "llama.attention.layer_norm_rms_epsilon": value.f32(1e-5),
  "llama.rope.freq_base": value.f64(10000),
  "tokenizer.ggml.model": value.text("llama"),
  "tokenizer.ggml.tokens": value.list(TOKENS.map(value.text)),
  "tokenizer.ggml.scores": value.list(TOKENS.map((_, i) => value.f32(-i))),
  "tokenizer.ggml.token_type": value.list([2, 3, 3, 6, 1, 1, 1, 1].map(value.i32)),
  "tokenizer.ggml.add_bos_token": value.bool(true),
  "tokenizer.chat_template": value.text("{{ messages }}"),
});

/** A tensor of numbers that don't matter. */
export function tensor(
  name: string,
  type: keyof typeof TYPE_NUMBERS,
  ...shape: number[]
): TensorToWrite {
  const bytes: Record<string, number> = { F32: 4, F16: 2, Q8_0: 34 / 32, Q4_0: 18 / 32 };
  const size = shape.reduce((a, b) => a * b, 1) * bytes[type];
  return { name, type, shape, data: Uint8Array.from({ length: size }, (_, i) => i * 37) };
}

/** Its tensors, of a tied embedding. */
export const TENSORS: readonly TensorToWrite[] = [
  tensor("token_embd.weight", "Q8_0", 8, 32),
  tensor("output_norm.weight", "F32", 32),
  tensor("blk.0.attn_norm.weight", "F32", 32),
  tensor("blk.0.attn_q.weight", "Q4_0", 32, 32),
  tensor("blk.0.attn_k.weight", "Q4_0", 16, 32),
  tensor("blk.0.attn_v.weight", "Q8_0", 16, 32),
  tensor("blk.0.attn_output.weight", "Q4_0", 32, 32),
  tensor("blk.0.ffn_norm.weight", "F32", 32),
  tensor("blk.0.ffn_gate.weight", "Q4_0", 32, 32),
  tensor("blk.0.ffn_up.weight", "Q4_0", 32, 32),
  tensor("blk.0.ffn_down.weight", "F16", 32, 32),
];
