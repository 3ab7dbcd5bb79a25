/** What a GGUF file's metadata and tensors make a model, and what is refused of them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../../kernels/errors.ts";
import type { ModelConfig } from "../../../../model/families/config.ts";
import { ropeScaling } from "../../../../model/formats/gguf/rope_factors.ts";
import { openGguf } from "../../../../model/formats/gguf/weights.ts";
import { ggufBytes, type TensorToWrite, value, type ValueToWrite } from "./gguf_writer.ts";
import { ENTRIES, tensor, TENSORS } from "./tiny_model.ts";

/** A change of the model: entries instead of its own or besides, undefined for none; and tensors likewise. */
interface Change {
  entries?: Record<string, ValueToWrite | undefined>;
  tensors?: (all: readonly TensorToWrite[]) => readonly TensorToWrite[];
}

/** The configuration of a model that is changed. */
function configOf({ entries = {}, tensors = (all) => all }: Change): ModelConfig {
  const folder = Deno.makeTempDirSync(), path = join(folder, "m.gguf");
  try {
    const all = { ...Object.fromEntries(ENTRIES), ...entries };
    const metadata = Object.entries(all).flatMap(([key, given]) =>
      given === undefined ? [] : [[key, given] as const]
    );
    Deno.writeFileSync(path, ggufBytes({ metadata, tensors: tensors(TENSORS) }));
    const source = openGguf(path);
    source.close();
    return source.config;
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

const entry = (key: string, given: ValueToWrite | undefined): Change => ({
  entries: { [key]: given },
});
const without = (name: string): Change => ({
  tensors: (all) => all.filter((tensor) => tensor.name !== name),
});
const besides = (...more: TensorToWrite[]): Change => ({ tensors: (all) => [...all, ...more] });

Deno.test("gguf: what the metadata leave out follows from llama.cpp and the tensors", () => {
  const plain = configOf({});
  assert.deepEqual(
    [plain.model_type, plain.head_dim, plain.vocab_size, plain.tie_word_embeddings],
    ["llama", 16, 8, true],
  );
  assert.deepEqual([plain.bos_token_id, plain.eos_token_ids, plain.rms_norm_eps], [1, [2], 1e-5]);
  assert.equal(configOf(entry("llama.rope.freq_base", undefined)).rope_theta, 10000);
  assert.equal(configOf(entry("llama.rope.freq_base", value.f32(1e6))).rope_theta, 1e6);
  const window = configOf(entry("llama.attention.sliding_window", value.u32(24)));
  assert.deepEqual([window.model_type, window.sliding_window], ["mistral", 24]);
  assert.equal(configOf(entry("llama.attention.sliding_window", value.u32(0))).model_type, "llama");
  const linear = {
    "llama.rope.scaling.type": value.text("linear"),
    "llama.rope.scaling.factor": value.f32(2.5),
  };
  assert.deepEqual(configOf({ entries: linear }).rope_scaling, { type: "linear", factor: 2.5 });
  assert.deepEqual(configOf(entry("llama.rope.scale_linear", value.f32(4))).rope_scaling, {
    type: "linear",
    factor: 4,
  });
  const output = tensor("output.weight", "Q8_0", 8, 32);
  assert.equal(configOf(besides(output)).tie_word_embeddings, false);
  const biases = besides(
    tensor("blk.0.attn_q.bias", "F32", 32),
    tensor("blk.0.attn_k.bias", "F32", 16),
    tensor("blk.0.attn_v.bias", "F32", 16),
    tensor("blk.0.attn_output.bias", "F32", 32),
  );
  assert.deepEqual([configOf(biases).attention_bias, configOf(biases).mlp_bias], [true, false]);
});

/** Models that are refused, and what is said of them. */
const REFUSED: [change: Change, message: RegExp][] = [
  [entry("general.type", value.text("adapter")), /: general\.type is "adapter", expected "model"$/],
  [
    entry("general.architecture", value.text("gpt2")),
    /: general\.architecture is "gpt2", expected one of "llama", /,
  ],
  [
    entry("general.architecture", undefined),
    /: general\.architecture is missing, expected one of "llama", /,
  ],
  [
    entry("llama.block_count", undefined),
    /: llama\.block_count is missing, expected a whole number from 1/,
  ],
  [
    entry("llama.block_count", value.f32(1.5)),
    /: llama\.block_count is 1\.5, expected a whole number/,
  ],
  [
    entry("llama.block_count", value.text("1")),
    /: llama\.block_count is "1", expected a finite number/,
  ],
  [
    entry("llama.block_count", value.u64(2 ** 60)),
    /: llama\.block_count is 1152921504606846976, expected/,
  ],
  [entry("llama.block_count", value.u32(2)), /: tensor "blk\.1\.attn_norm\.weight" is missing$/],
  [
    entry("llama.expert_count", value.u32(8)),
    /: llama\.expert_count is 8, expected 0: nothing else/,
  ],
  [
    entry("llama.rope.dimension_count", value.u32(8)),
    /: llama\.rope\.dimension_count is 8, expected 16/,
  ],
  [
    entry("llama.rope.scaling.type", value.text("yarn")),
    /: llama\.rope\.scaling\.type is "yarn", expected "none"/,
  ],
  [
    entry("llama.attention.value_length", value.u32(8)),
    /: llama\.attention\.value_length is 8, expected 16/,
  ],
  [
    entry("llama.attention.head_count", value.u32(3)),
    /: llama\.attention\.head_count is 3, expected a divisor/,
  ],
  [
    entry("llama.attention.head_count_kv", value.list([value.u32(1), value.u32(2)])),
    /: llama\.attention\.head_count_kv is "a list of 2", expected the same in every layer$/,
  ],
  [
    entry("llama.feed_forward_length", value.u32(64)),
    /"blk\.0\.ffn_gate\.weight" has shape \[32,32\], but the metadata need \[64,32\]/,
  ],
  [
    entry("llama.embedding_length", value.u32(64)),
    /"token_embd\.weight" has shape \[8,32\], expected two dimensions/,
  ],
  [
    entry("tokenizer.ggml.token_type", value.list([value.i32(1)])),
    /: tokenizer\.ggml\.token_type is/,
  ],
  [without("token_embd.weight"), /: tensor "token_embd\.weight" is missing$/],
  [without("blk.0.ffn_up.weight"), /: tensor "blk\.0\.ffn_up\.weight" is missing$/],
  [
    besides(tensor("blk.0.ffn_gate_exps.weight", "F32", 4)),
    /"blk\.0\.ffn_gate_exps\.weight" is no part of a model as the metadata/,
  ],
  [
    besides(tensor("rope_freqs.weight", "F32", 4)),
    /: tensor "rope_freqs\.weight" has 16 bytes in F32, expected 8/,
  ],
];

Deno.test("gguf: what is no Llama as it is computed here is refused by its key or tensor", () => {
  for (const [change, message] of REFUSED) {
    assert.throws(
      () => configOf(change),
      (error) =>
        error instanceof UserError && message.test(error.message) || assert.fail(String(error)),
      String(message),
    );
  }
});

Deno.test("gguf: RoPE's scaling is found from what the frequencies are divided by", () => {
  const headDim = 128, theta = 5e5, context = 1000;
  const cases = [[8, 1, 4, 8192], [32, 1, 4, 8192], [4, 1, 8, 4096], [16, 2, 6, 3000]];
  for (const [factor, low, high, original] of cases) {
    const factors = Float32Array.from({ length: headDim / 2 }, (_, i) => {
      const wavelength = 2 * Math.PI * theta ** (2 * i / headDim);
      if (wavelength < original / high) return 1;
      if (wavelength > original / low) return factor;
      const smooth = (original / wavelength - low) / (high - low);
      return 1 / ((1 - smooth) / factor + smooth);
    });
    const scaling = ropeScaling(factors, { headDim, theta, context });
    assert.ok(scaling?.type === "llama3" && scaling.factor === factor);
    // Scaled alike, all three lengths give the same frequencies.
    const { low_freq_factor, high_freq_factor, original_max_position_embeddings: found } = scaling;
    assert.ok(Math.abs(high_freq_factor / low_freq_factor / (high / low) - 1) < 1e-3);
    assert.ok(Math.abs(found / low_freq_factor / (original / low) - 1) < 1e-3);
  }
  assert.equal(ropeScaling(new Float32Array(64).fill(1), { headDim, theta, context }), null);
  const others = Float32Array.from({ length: 64 }, (_, i) => 1 + i % 3);
  assert.deepEqual(ropeScaling(others, { headDim, theta, context }), {
    type: "longrope",
    original_max_position_embeddings: context,
    short_factor: [...others],
    long_factor: [...others],
    attention_factor: 1,
  });
});
