/** Adapters merged into weights on the GPU, against the same sums in float64. */
import assert from "node:assert/strict";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { type ModelConfig, weightShapes } from "../../../model/families/config.ts";
import {
  type Adapter,
  adapterShapes,
  type AdapterTensor,
  readAdapter,
} from "../../../model/adapter/adapter_folder.ts";
import { adapterConfig } from "../../../model/adapter/adapter_config.ts";
import type { LinearModule } from "../../../model/families/linear_modules.ts";
import { toFloat32 } from "../../../model/formats/half.ts";
import { rewrittenTensors } from "../../../model/formats/rewrite.ts";
import type { FileDtype } from "../../../model/formats/weights.ts";
import { AdapterMerge } from "../../../model/checkpoint/merge.ts";
import { fixturePath, readModel } from "../../fixtures.ts";
import { gpuTest, randomArray } from "../../kernels/harness.ts";
import { encode, memoryWeights, smallConfig } from "./made_weights.ts";

type Weights = Map<string, { dtype: FileDtype; bytes: Uint8Array }>;

/** An adapter of random matrices, B included. */
function randomAdapter(
  config: ModelConfig,
  r: number,
  target_modules: LinearModule[],
  lora_alpha = 8,
): Adapter {
  const tensors = new Map<string, AdapterTensor>();
  for (const [name, shape] of adapterShapes(config, { r, target_modules })) {
    const data = Float32Array.from(randomArray(shape[0] * shape[1], 7 * tensors.size + r, 0.3));
    tensors.set(name, { shape, data } as AdapterTensor);
  }
  return { config: adapterConfig({ r, lora_alpha, target_modules }), tensors };
}

/** The fixture's weights in a dtype. */
function fixtureWeights(dtype: FileDtype): { config: ModelConfig; weights: Weights } {
  const { config, weights } = readModel("llama");
  const encoded = Array.from(
    weights,
    ([name, { data }]) => [name, { dtype, bytes: encode(data, dtype) }] as const,
  );
  return { config, weights: new Map(encoded) };
}

/** Smallest step from a number of this size to the next. */
function unit(dtype: FileDtype, value: number): number {
  const [digits, least] = { F32: [23, -126], F16: [10, -14], BF16: [7, -126] }[dtype];
  return 2 ** (Math.max(least, Math.floor(Math.log2(Math.abs(value)))) - digits);
}

/**
 * Merges, and checks every tensor: those without an adapter to the byte, the others' rows `checked`
 * within the rounding of the dtype and of a sum in f32.
 *
 * @returns Names of the tensors that changed.
 */
async function checkMerge(
  gpu: Gpu,
  { config, weights }: { config: ModelConfig; weights: Weights },
  adapter: Adapter,
  checked: (row: number, rows: number) => boolean = () => true,
): Promise<string[]> {
  const change = new AdapterMerge(gpu, adapter, config);
  const scale = adapter.config.lora_alpha / adapter.config.r;
  const merged: string[] = [];
  for (const tensor of rewrittenTensors(memoryWeights(config, weights), { change })) {
    const { name, dtype, shape: [rows, width] } = tensor, before = weights.get(name)!;
    assert.equal(dtype, before.dtype);
    const bytes = new Uint8Array(before.bytes.length);
    let at = 0;
    for await (const piece of tensor.data) {
      bytes.set(piece, at);
      at += piece.length;
    }
    assert.equal(at, bytes.length);
    const [a, b] = ["A", "B"].map((matrix) =>
      adapter.tensors.get(`base_model.model.${name.replace(/weight$/, `lora_${matrix}.weight`)}`)
    );
    assert.equal(change.changes(name), a !== undefined);
    if (a === undefined || b === undefined) {
      for (let i = 0; i < at; i++) if (bytes[i] !== before.bytes[i]) assert.fail(`${name} ${i}`);
      continue;
    }
    merged.push(name);
    const values = toFloat32(bytes, dtype), base = toFloat32(before.bytes, dtype);
    const rank = adapter.config.r;
    for (let row = 0; row < rows; row++) {
      if (!checked(row, rows)) continue;
      for (let column = 0; column < width; column++) {
        const i = row * width + column;
        let sum = 0, magnitude = Math.abs(base[i]);
        for (let k = 0; k < rank; k++) {
          const product = scale * b.data[row * rank + k] * a.data[k * width + column];
          sum += product;
          magnitude += Math.abs(product);
        }
        const exact = base[i] + sum;
        // Half a unit for the dtype, and rank + 2 roundings of f32, which may tip the one of the dtype.
        const f32 = (rank + 2) * magnitude * 2 ** -24;
        const tolerance = 0.5 * unit(dtype, Math.abs(exact) + f32) + f32;
        const error = Math.abs(values[i] - exact);
        if (!(error <= tolerance)) assert.fail(`${name}[${row}, ${column}] is off by ${error}`);
      }
    }
  }
  assert.equal(merged.length, change.count);
  return merged;
}

gpuTest("merge: W + (α/r)·B·A in every dtype; all else stays to the byte", async (gpu) => {
  for (const dtype of ["F32", "F16", "BF16"] as const) {
    const model = fixtureWeights(dtype);
    const [qv, all] = ["adapter_qv", "adapter_all"].map((name) => readAdapter(fixturePath(name)));
    const merged = await checkMerge(gpu, model, qv);
    const projections = [0, 1, 2].flatMap((layer) =>
      ["q_proj", "v_proj"].map((module) => `model.layers.${layer}.self_attn.${module}.weight`)
    );
    assert.deepEqual(merged, projections);
    const linear = [...weightShapes(model.config).keys()].filter((name) => name.includes("_proj."));
    assert.deepEqual(await checkMerge(gpu, model, all), linear);
  }
});

gpuTest("merge: ranks that are no multiple of 4, and larger than the layer", async (gpu) => {
  const model = fixtureWeights("F32");
  for (const [rank, alpha] of [[1, 16], [33, 8], [130, 1.5]]) {
    await checkMerge(gpu, model, randomAdapter(model.config, rank, ["k_proj", "down_proj"], alpha));
  }
});

gpuTest("merge: layers of several pieces", async (gpu) => {
  // gate_proj and up_proj are two pieces of many rows, down_proj two of long rows.
  const config = smallConfig({ hidden_size: 260, intermediate_size: 16_420 });
  const weights: Weights = new Map();
  for (const [name, shape] of weightShapes(config)) {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    for (let i = 0; i < values.length; i++) values[i] = Math.sin(i);
    weights.set(name, { dtype: "F16", bytes: encode(values, "F16") });
  }
  const edges = (row: number, rows: number) =>
    row < 2 || row >= rows - 2 || (row % 16 === 15 && row < 300) || (row > 16_100 && row % 7 === 0);
  const adapter = randomAdapter(config, 4, ["gate_proj", "down_proj"]);
  assert.equal((await checkMerge(gpu, { config, weights }, adapter, edges)).length, 2);
});

gpuTest(
  "DoRA of an embedding is merged by columns, whatever pieces the table comes in",
  async (gpu) => {
    const { config, weights } = readModel("family"), name = "model.embed_tokens.weight";
    const { shape, data } = weights.get(name)!, [tokens, hidden] = shape;
    const adapter = readAdapter(fixturePath("peft/dora_embed"));
    const tensor = (end: string) =>
      adapter.tensors.get(`base_model.model.model.embed_tokens.${end}`)!.data;
    const [a, b, lengths] = ["lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"].map(
      tensor,
    );
    const { r, lora_alpha } = adapter.config;
    const sum = Float64Array.from(data, (value, i) => {
      const token = Math.floor(i / hidden), feature = i % hidden;
      for (let k = 0; k < r; k++) {
        value += lora_alpha / r * a[k * tokens + token] * b[feature * r + k];
      }
      return value;
    });
    const squares = new Float64Array(hidden);
    sum.forEach((value, i) => squares[i % hidden] += value * value);
    const expected = sum.map((value, i) =>
      value * lengths[i % hidden] / Math.sqrt(squares[i % hidden])
    );
    // With and without the copy of the table that PEFT puts beside the adapter.
    const copy = "base_model.model.model.embed_tokens.base_layer.weight";
    assert.ok(adapter.tensors.has(copy));
    for (const most of [16, tokens, 16]) {
      const merge = new AdapterMerge(gpu, adapter, config);
      assert.ok(merge.surveys(name) && !merge.surveys("model.layers.0.self_attn.v_proj.weight"));
      const pieces = Array.from({ length: Math.ceil(tokens / most) }, (_, i) => {
        const firstRow = i * most, rows = Math.min(most, tokens - firstRow);
        const bytes = encode(data.slice(firstRow * hidden, (firstRow + rows) * hidden), "F32");
        return { name, dtype: "F32" as const, shape, firstRow, rows, bytes };
      });
      for (const piece of pieces) await merge.survey(piece);
      const actual: number[] = [];
      for (const piece of pieces) actual.push(...await merge.apply(piece));
      assert.equal(actual.length, expected.length);
      const error = Math.max(...actual.map((value, i) => Math.abs(value - expected[i])));
      assert.ok(error < 1e-5, `off by ${error}`);
      adapter.tensors.delete(copy);
    }
  },
);
