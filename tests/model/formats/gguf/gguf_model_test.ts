/** Models that Python's `gguf` wrote, against what transformers computes with their numbers; see make_gguf.py. */
import assert from "node:assert/strict";
import { EXACT } from "../../../../kernels/ops/numerics.ts";
import { loadWeights } from "../../../../model/checkpoint/load.ts";
import { openModel } from "../../../../model/checkpoint/source.ts";
import { weightShapes } from "../../../../model/families/config.ts";
import { openGguf } from "../../../../model/formats/gguf/weights.ts";
import { toFloat32 } from "../../../../model/formats/half.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { type Batch, makeBatch } from "../../../../model/transformer/batch.ts";
import { Llama } from "../../../../model/transformer/llama.ts";
import { scoreMode } from "../../../../model/transformer/modes.ts";
import { frozenKinds } from "../../../../model/transformer/quantization.ts";
import { fixturePath } from "../../../fixtures.ts";
import { assertClose, gpuTest } from "../../../kernels/harness.ts";

interface Expected {
  ids: number[];
  positions: number[];
  logits: number[][];
  absolute_sums: Record<string, number>;
}

const expected: Record<string, Expected> = JSON.parse(
  Deno.readTextFileSync(fixturePath("gguf/expected.json")),
);

/** The models, each by any of its files. */
const MODELS = {
  sentencepiece: "sentencepiece.gguf",
  byte_level: "byte_level-00002-of-00003.gguf",
};

/** The kinds that their weights are held in. */
const KINDS: Record<string, string[]> = {
  sentencepiece: ["f32", "int8", "q4_0", "q4_k", "q6_k"],
  byte_level: ["f32", "int8"],
};

for (const [name, file] of Object.entries(MODELS)) {
  const path = fixturePath(`gguf/${file}`),
    { ids, positions, logits, absolute_sums } = expected[name];

  Deno.test(`gguf: ${file} has the weights of a Hugging Face folder`, async () => {
    const source = openGguf(path);
    try {
      const names = [...weightShapes(source.config).keys()];
      assert.deepEqual(names.toSorted(), Object.keys(absolute_sums).toSorted());
      for (const weight of names) {
        const { dtype, bytes } = source.info(weight), all = new Uint8Array(bytes);
        await source.read(weight, 0, all);
        const sum = toFloat32(all, dtype).reduce((sum, value) => sum + Math.abs(value), 0);
        assert.ok(Math.abs(sum / absolute_sums[weight] - 1) < 1e-6, weight);
      }
    } finally {
      source.close();
    }
  });

  for (const isKept of [true, false]) {
    const held = isKept ? "as kernels hold them" : "as values";
    gpuTest(`gguf: logits of ${file} equal transformers', weights ${held}`, async (gpu) => {
      const source = openModel(path),
        settings = { double_quantization: true, quantization_skip: [] };
      const model = new Llama(gpu.memory, {
        config: source.config,
        numerics: EXACT,
        frozen: isKept
          ? frozenKinds(source.config, { quantization: "none", ...settings }, source.weights)
          : undefined,
        mode: scoreMode({ maxTokens: 64, maxTargets: 64 }),
      });
      const kinds = new Set(model.weights.map(({ operand: { kind } }) => kind.name));
      assert.deepEqual([...kinds].toSorted(), isKept ? KINDS[name] : ["f32"]);
      model.initialize(gpu);
      await loadWeights(gpu, model, source, { seed: 0 });
      const document = { ids: Uint32Array.from(ids), targets: [], weight: 0 };
      const batch: Batch = {
        ...makeBatch([document], null),
        targetRows: Uint32Array.from(positions),
        targetCount: positions.length,
      };
      const result = model.logits(gpu, batch);
      const values = await gpu.readF32(result), width = result.rowSize;
      positions.forEach((position, row) => {
        const found = values.slice(row * width, row * width + source.config.vocab_size);
        assertClose(found, Float32Array.from(logits[row]), {
          atol: 1e-4,
          rtol: 0,
          what: `${position}`,
        });
      });
    });
  }
}

Deno.test("gguf: the configuration is the one that the model was made with", () => {
  const first = openGguf(fixturePath("gguf/sentencepiece.gguf"), { layers: 1 });
  first.close();
  assert.deepEqual(first.config, {
    model_type: "llama",
    vocab_size: 360,
    hidden_size: 256,
    intermediate_size: 64,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 8,
    hidden_act: "silu",
    max_position_embeddings: 128,
    rms_norm_eps: 1e-5,
    rope_theta: 5000,
    rope_scaling: null,
    sliding_window: null,
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: 2,
    eos_token_ids: [2],
  });
  const second = openGguf(fixturePath("gguf/byte_level-00001-of-00003.gguf"));
  second.close();
  const { rope_scaling, attention_bias, tie_word_embeddings, eos_token_ids } = second.config;
  assert.deepEqual(rope_scaling, {
    type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 64,
  });
  assert.deepEqual({ attention_bias, tie_word_embeddings }, {
    attention_bias: true,
    tie_word_embeddings: true,
  });
  assert.ok(eos_token_ids.length >= 1);
});

Deno.test("gguf: the tokenizer and what ends a text are in the first of several files", async () => {
  const first = await loadTokenizer(fixturePath("gguf/byte_level-00001-of-00003.gguf"));
  const last = await loadTokenizer(fixturePath("gguf/byte_level-00003-of-00003.gguf"));
  assert.deepEqual(last.encodeText("a bird sings"), first.encodeText("a bird sings"));
  assert.equal(last.prefix_ids.length, 1);
});
