import assert from "node:assert/strict";
import { join } from "node:path";
import type { ModelConfig } from "../../../model/families/config.ts";
import { metaConfig, readParams } from "../../../model/formats/meta_params.ts";
import { writeJson } from "../../../model/files/json_file.ts";

let folder = "", file = "";
Deno.test.beforeAll(() => {
  folder = Deno.makeTempDirSync();
  file = join(folder, "params.json");
});
Deno.test.afterAll(() => Deno.removeSync(folder, { recursive: true }));

/** The configuration that follows from a params.json. */
function configOf(
  params: Record<string, unknown>,
  sizes: { vocab_size: number; intermediate_size: number },
): ModelConfig {
  writeJson(file, params);
  return metaConfig(readParams(file), sizes);
}

const LLAMA2_7B = {
  dim: 4096,
  multiple_of: 256,
  n_heads: 32,
  n_layers: 32,
  norm_eps: 1e-5,
  vocab_size: -1,
};
const LLAMA3_8B = {
  dim: 4096,
  n_layers: 32,
  n_heads: 32,
  n_kv_heads: 8,
  vocab_size: 128256,
  multiple_of: 1024,
  ffn_dim_multiplier: 1.3,
  norm_eps: 1e-5,
  rope_theta: 500000,
};
const SIZES_2 = { vocab_size: 32000, intermediate_size: 11008 };
const SIZES_3 = { vocab_size: 128256, intermediate_size: 14336 };

const expected = {
  model_type: "llama",
  ...SIZES_2,
  hidden_size: 4096,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 32,
  head_dim: 128,
  hidden_act: "silu",
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  rope_scaling: null,
  sliding_window: null,
  attention_bias: false,
  mlp_bias: false,
  tie_word_embeddings: false,
  bos_token_id: 1,
  eos_token_id: 2,
  eos_token_ids: [2],
};

Deno.test("params.json of Llama 2, Code Llama, Llama 3 and 3.1", () => {
  assert.deepEqual(configOf(LLAMA2_7B, SIZES_2), expected);
  const large = { ...LLAMA2_7B, dim: 8192, n_heads: 64, n_kv_heads: 8, n_layers: 80 };
  const sizes = { vocab_size: 32000, intermediate_size: 28672 };
  assert.deepEqual(configOf({ ...large, multiple_of: 4096, ffn_dim_multiplier: 1.3 }, sizes), {
    ...expected,
    ...sizes,
    hidden_size: 8192,
    num_hidden_layers: 80,
    num_attention_heads: 64,
    num_key_value_heads: 8,
  });
  const { vocab_size: _, ...code } = { ...LLAMA2_7B, rope_theta: 1e6 };
  assert.deepEqual(configOf(code, { ...SIZES_2, vocab_size: 32016 }), {
    ...expected,
    vocab_size: 32016,
    rope_theta: 1e6,
    max_position_embeddings: 16384,
  });
  const llama3 = {
    ...expected,
    ...SIZES_3,
    num_key_value_heads: 8,
    rope_theta: 500000,
    max_position_embeddings: 8192,
    bos_token_id: 128000,
    eos_token_id: 128001,
    eos_token_ids: [128001, 128008, 128009],
  };
  assert.deepEqual(configOf(LLAMA3_8B, SIZES_3), llama3);
  assert.deepEqual(configOf({ ...LLAMA3_8B, use_scaled_rope: false }, SIZES_3), llama3);
  const scaling = {
    type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
  const llama31 = { ...llama3, max_position_embeddings: 131072, rope_scaling: scaling };
  assert.deepEqual(configOf({ ...LLAMA3_8B, use_scaled_rope: true }, SIZES_3), llama31);
  const factors = { use_scaled_rope: true, rope_scaling_factor: 32, high_freq_factor: 2 };
  assert.deepEqual(configOf({ ...LLAMA3_8B, ...factors }, SIZES_3), {
    ...llama31,
    rope_scaling: { ...scaling, factor: 32, high_freq_factor: 2 },
  });
});

Deno.test("a context that is said is kept", () => {
  const config = configOf({ ...LLAMA2_7B, max_seq_len: 512, max_batch_size: 6 }, SIZES_2);
  assert.equal(config.max_position_embeddings, 512);
});

Deno.test("refuses fields that are missing, wrong or not of a plain Llama", () => {
  const refuse = (params: unknown, message: string) => {
    writeJson(file, params);
    assert.throws(() => readParams(file), { name: "UserError", message: `${file}: ${message}` });
  };
  const changed = (fields: Record<string, unknown>) => ({ ...LLAMA2_7B, ...fields });
  refuse([], "expected a JSON object");
  const whole = (most: number) => `expected a whole number from 1 to ${most}`;
  refuse(changed({ dim: undefined }), `dim is missing, ${whole(2 ** 20)}`);
  refuse(changed({ dim: 4096.5 }), `dim is 4096.5, ${whole(2 ** 20)}`);
  refuse(changed({ n_layers: 0 }), `n_layers is 0, ${whole(4096)}`);
  refuse(changed({ n_heads: "32" }), `n_heads is "32", ${whole(2 ** 20)}`);
  refuse(changed({ n_heads: 33 }), "n_heads is 33, expected a divisor of dim 4096");
  refuse(changed({ n_kv_heads: 33 }), `n_kv_heads is 33, ${whole(32)}`);
  refuse(changed({ vocab_size: -2 }), `vocab_size is -2, ${whole(2 ** 24)}`);
  refuse(changed({ norm_eps: 1 }), "norm_eps is 1, expected a number between 0 and 1");
  refuse(changed({ rope_theta: 0 }), "rope_theta is 0, expected a positive number");
  refuse(changed({ use_scaled_rope: 1 }), "use_scaled_rope is 1, expected true or false");
  const scaled = changed({ use_scaled_rope: true, rope_scaling_factor: -8 });
  refuse(scaled, "rope_scaling_factor is -8, expected a positive number");
  refuse(changed({ max_seq_len: 0 }), `max_seq_len is 0, ${whole(2 ** 31)}`);
  for (const field of ["moe_args", "quantization_args", "vision_chunk_size", "head_dim"]) {
    const problem = "expected none: no Llama up to 3.1 that reads text has this field";
    refuse(changed({ [field]: 64 }), `${field} is 64, ${problem}`);
    readParamsOf(changed({ [field]: null }));
  }
  // Whatever a field is called, the message is one line.
  const problem = "expected none: no Llama up to 3.1 that reads text has this field";
  refuse(changed({ "\n_heads": 1 }), `"\\n_heads" is 1, ${problem}`);
  refuse(changed({ ["x".repeat(1000)]: 1 }), `"${"x".repeat(96)}... is 1, ${problem}`);
});

function readParamsOf(params: unknown): void {
  writeJson(file, params);
  readParams(file);
}

Deno.test("sizes that don't suit the kernels are refused by Hugging Face's names", () => {
  const small = { ...LLAMA2_7B, dim: 48, n_heads: 12 };
  assert.throws(() => configOf(small, SIZES_2), {
    name: "UserError",
    message: `${file}: head_dim is 4, expected a multiple of 8`,
  });
});
