/** Models of every family written as GGUF and read back; and what llama.cpp computes otherwise, refused by its field. */
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  archSpec,
  ggufFamilies,
  type ModelConfig,
  parseConfig,
  weightShapes,
} from "../../../../model/families/config.ts";
import type { RopeSpec } from "../../../../model/families/spec.ts";
import { ropeFrequencies } from "../../../../kernels/ops/rope/frequencies.ts";
import { modelMetadata } from "../../../../model/formats/gguf/model_metadata.ts";
import { Quantizers } from "../../../../model/formats/gguf/quantizers.ts";
import { openGguf } from "../../../../model/formats/gguf/weights.ts";
import { writeGguf } from "../../../../model/formats/gguf/write_gguf.ts";
import { ggufTensors, takenDtype } from "../../../../model/formats/gguf/written_tensors.ts";
import { rewrittenTensors } from "../../../../model/formats/rewrite.ts";
import type { WeightSource } from "../../../../model/formats/weights.ts";
import { TemporaryFolder } from "../../../cli/cli.ts";
import { fixturePath, readFixture } from "../../../fixtures.ts";
import { EXACT } from "../../../../kernels/ops/numerics.ts";
import { assertClose, gpuTest } from "../../../kernels/harness.ts";
import { assertLogits } from "../../families/beside_transformers.ts";
import { encode, memoryWeights } from "../../checkpoint/made_weights.ts";

/** The configurations of the tiny models that transformers ran, by name. */
function configurations(): Map<string, ModelConfig> {
  const { cases } = readFixture("families.json");
  const named = cases.map(({ name, config }) => [name, config] as const);
  const rotations = Deno.readDirSync(fixturePath("rotations")).map(({ name }) => {
    const path = join(fixturePath("rotations"), name, "config.json");
    return [name, JSON.parse(Deno.readTextFileSync(path))] as const;
  });
  const json = new Map([...named, ...rotations]);
  // What llama.cpp has of families whose tiny models have something else.
  const changed = ([
    ["mistral: plain", "mistral: gelu", { hidden_act: "silu" }],
    ["smollm3: plain", "smollm3: types", {
      num_hidden_layers: 5,
      use_sliding_window: false,
      layer_types: undefined,
      no_rope_layers: undefined,
    }],
    ["exaone4: as many layers as the 32B", "exaone4: pattern", {
      num_hidden_layers: 64,
      sliding_window_pattern: 4,
      layer_types: undefined,
    }],
    ["seed_oss: plain", "seed_oss: biases", { attention_out_bias: false, mlp_bias: false }],
    ["gemma2: layers of its own", "gemma2: low caps, SiLU", {
      hidden_activation: undefined,
      query_pre_attn_scalar: 8,
    }],
  ] as const).map(([name, of, changes]) => [name, { ...json.get(of), ...changes }] as const);
  return new Map([...json, ...changed].map(([name, json]) => [name, parseConfig(json, name)]));
}

/** Numbers that are different everywhere. */
function made(config: ModelConfig): WeightSource {
  let next = 0;
  const weights = Array.from(weightShapes(config), ([name, shape]) => {
    const values = Float32Array.from(
      { length: shape.reduce((a, b) => a * b, 1) },
      () => Math.sin(next++),
    );
    return [name, { dtype: "F32" as const, bytes: encode(values, "F32") }] as const;
  });
  return memoryWeights(config, new Map(weights));
}

async function valuesOf(source: WeightSource, name: string): Promise<Float32Array> {
  const bytes = new Uint8Array(source.info(name).bytes);
  await source.read(name, 0, bytes);
  return new Float32Array(bytes.buffer);
}

/** A rotation by the frequencies of short texts and of long ones, whatever rule they are of. */
function frequencies({ rotary, ...rope }: RopeSpec): unknown {
  const { dims } = rotary, { scaling } = rope;
  const factor = scaling !== null && "attention_factor" in scaling ? scaling.attention_factor : 1;
  const of = (positions: number) => [...ropeFrequencies({ dims, positions, ...rope })];
  return { rotary, factor, short: of(1), long: of(1e6) };
}

/** A specification with numbers as f32 holds them. */
function rounded(config: ModelConfig): string {
  const { layers, ...spec } = archSpec(config);
  const all = {
    ...spec,
    layers: layers.map((layer) => ({ ...layer, rope: layer.rope && frequencies(layer.rope) })),
  };
  return JSON.stringify(all, (_, value) => {
    if (value instanceof Set) return [...value].sort();
    return typeof value === "number" ? Number(value.toPrecision(5)) : value;
  });
}

/** What is said of those that llama.cpp computes otherwise. */
const REFUSED: Readonly<Record<string, RegExp>> = {
  "llama: gelu": /^hidden_act is "gelu_pytorch_tanh", which GGUF has no key for .*"silu"/,
  "mistral: gelu": /^hidden_act is "gelu_pytorch_tanh"/,
  "ministral: types": /^model_type is "ministral", which is not written as GGUF/,
  "ministral: window everywhere": /^model_type is "ministral"/,
  "ministral3: YaRN": /^sliding_window is 4, .* architecture "mistral3"/,
  "qwen2: window from layer 1": /^layer_types is .* architecture "qwen2"/,
  "qwen2: types, linear": /^layer_types is .* architecture "qwen2"/,
  "qwen3: biases, window everywhere": /a bias in q_proj, which GGUF has no place for .*"qwen3"/,
  "smollm3: biases, window without RoPE": /a bias in q_proj.*"smollm3"/,
  "smollm3: types": /^layer_types is .* architecture "smollm3"/,
  "olmo2: biases": /a bias in q_proj.*"olmo2"/,
  "olmo3: two ropes": /a bias in q_proj.*"olmo2"/,
  "seed_oss: biases": /a bias in o_proj.*"seed_oss"/,
  "seed_oss: bias of o": /a bias in o_proj.*"seed_oss"/,
  "exaone4: pattern": /^layer_types is .* architecture "exaone4"/,
  "exaone4: types": /^layer_types is .* architecture "exaone4"/,
  "gemma2: no caps, biases": /a bias in q_proj.*"gemma2"/,
  "gemma2: low caps, SiLU": /^hidden_act is "silu", which GGUF has no key for .*"gemma2"/,
  "gemma3_text: two ropes, biases": /a bias in q_proj.*"gemma3"/,
  "helium_bias": /^model_type is "helium"/,
  "llama_yarn": /^rope_scaling has truncate false, which GGUF has no key for/,
};

Deno.test("gguf: models of every family are read as they were written, or refused by the field", async () => {
  using quantizers = new Quantizers();
  using files = new TemporaryFolder();
  const written = new Set<string>(), all = configurations();
  let named = 0;
  for (const [name, config] of all) {
    const expected = REFUSED[name];
    const metadata = () => modelMetadata(config, { name, format: "F32" });
    if (expected !== undefined) {
      assert.throws(metadata, { name: "UserError", message: expected }, name);
      continue;
    }
    const source = made(config), path = files.file(`${named++}.gguf`);
    const taken = rewrittenTensors(source, { dtype: (shape) => takenDtype(shape, "F32") });
    await writeGguf(path, metadata(), ggufTensors(taken, config, "F32", quantizers));
    const read = openGguf(path);
    try {
      assert.equal(rounded(read.config), rounded(config), name);
      for (const weight of weightShapes(config).keys()) {
        const [actual, before] = [await valuesOf(read, weight), await valuesOf(source, weight)];
        assertClose(actual, before, { atol: 2e-7, rtol: 0, what: `${name}, ${weight}` });
      }
    } finally {
      read.close();
    }
    written.add(config.model_type);
  }
  assert.deepEqual([...Object.keys(REFUSED)].filter((name) => !all.has(name)), []);
  const missing = ggufFamilies().filter(([type]) => !written.has(type)).map(([type]) => type);
  assert.deepEqual(missing, []);
});

/** `gguf_families/expected.json`, by family. */
type Expected = Record<string, { ids: number[]; positions: number[]; logits: number[][] }>;

const MADE = fixturePath("gguf_families");
const expected: Expected = JSON.parse(Deno.readTextFileSync(join(MADE, "expected.json")));
for (const [name, { ids, positions, logits }] of Object.entries(expected)) {
  gpuTest(
    `gguf: a file that Python's gguf wrote is the model of transformers: ${name}`,
    async (gpu) => {
      const path = join(MADE, `${name}.gguf`), source = openGguf(path);
      source.close();
      assert.equal(source.config.model_type, name);
      const rows = new Map(positions.map((position, i) => [position, logits[i]]));
      await assertLogits(gpu, path, { ids, rows }, { numerics: EXACT, tolerance: 1e-4 });
    },
  );
}
