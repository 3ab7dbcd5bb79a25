/** Merged and converted folders: they say what model and adapter say, and how far from it they are. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { compareLogits } from "../../infer/merge_check.ts";
import { openFiles, writeModel } from "../../infer/write_model.ts";
import { UserError } from "../../kernels/errors.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { makeBatch } from "../../model/transformer/batch.ts";
import { weightShapes } from "../../model/families/config.ts";
import { presetConfig } from "../../model/families/presets.ts";
import { type Adapter, adapterShapes, readAdapter } from "../../model/adapter/adapter_folder.ts";
import { adapterConfig } from "../../model/adapter/adapter_config.ts";
import { writeHuggingFace } from "../../model/formats/write_huggingface.ts";
import { rewrittenTensors } from "../../model/formats/rewrite.ts";
import { EXACT } from "../../kernels/ops/numerics.ts";
import { scoreMode } from "../../model/transformer/modes.ts";
import { Llama } from "../../model/transformer/llama.ts";
import { loadWeights } from "../../model/checkpoint/load.ts";
import { AdapterMerge } from "../../model/checkpoint/merge.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { exists, TemporaryFolder } from "../cli/cli.ts";
import { fixturePath, readFixture, readTensors } from "../fixtures.ts";
import { gpu, gpuTest } from "../kernels/harness.ts";
import { writeZeros } from "../model/checkpoint/made_weights.ts";
import { targetsAfter } from "../../model/text/targets.ts";

const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

/** Merges a fixture adapter into a model. */
async function merge(gpu: Gpu, model: string, adapter: Adapter, output: string): Promise<void> {
  const flags = { model, output };
  const source = await openFiles(flags);
  assert.ok(
    await writeModel(source, flags, "Merging", new AdapterMerge(gpu, adapter, source.config)),
  );
  source.weights.close();
}

/**
 * The likeliest id after every position of a text: where the text is a prompt and its greedy answer,
 * the answer's ids again.
 */
async function likeliest(gpu: Gpu, model: Llama, ids: number[]): Promise<number[]> {
  const document = { ids: Uint32Array.from(ids), targets: targetsAfter(1, ids), weight: 0 };
  const logits = model.logits(gpu, makeBatch([document], null));
  const values = await gpu.readF32(logits), width = logits.rowSize;
  return ids.slice(1).map((_, row) => {
    const start = row * width;
    let best = 0;
    for (let id = 1; id < model.config.vocab_size; id++) {
      if (values[start + id] > values[start + best]) best = id;
    }
    return best;
  });
}

gpuTest("merge: greedy answers are those of model and adapter, sharded or not", async (gpu) => {
  using folder = new TemporaryFolder();
  for (const name of ["adapter_qv", "adapter_all"] as const) {
    const adapter = readAdapter(fixturePath(name));
    const [single, sharded] = [folder.file(name), folder.file(`${name}_sharded`)];
    await merge(gpu, fixturePath("llama"), adapter, single);
    const { weights, config } = openModel(fixturePath("llama"));
    const tensors = rewrittenTensors(weights!, {
      change: new AdapterMerge(gpu, adapter, weights!.config),
    });
    await writeHuggingFace(sharded, config, tensors, { maxFileBytes: 50_000 });
    weights!.close();
    assert.deepEqual(names(single), ["config.json", "model.safetensors"]);
    assert.ok(names(sharded).filter((file) => /^model-\d+-of-/.test(file)).length > 3);
    for (const path of [single, sharded]) {
      const source = openModel(path);
      const sizes = { maxTokens: 64, maxTargets: 64 };
      const model = new Llama(gpu.memory, {
        config: source.config,
        numerics: EXACT,
        mode: scoreMode(sizes),
      });
      model.initialize(gpu);
      await loadWeights(gpu, model, source, { seed: 0 });
      const cases = readFixture("greedy.json").filter((c) =>
        c.adapter === name && c.prompt.length + c.ids.length <= 64
      );
      assert.ok(cases.length >= 3);
      for (const { prompt, ids } of cases) {
        const answer = await likeliest(gpu, model, [...prompt, ...ids]);
        assert.deepEqual(answer.slice(prompt.length - 1), ids, `${path}, ${prompt.length} tokens`);
      }
    }
  }
});

gpuTest("merge: a tied embedding, and a folder in Meta's layout", async (gpu) => {
  using folder = new TemporaryFolder();
  const tied = openModel(fixturePath("llama_tied"));
  const target_modules = ["o_proj" as const], r = 2;
  const adapter: Adapter = {
    config: adapterConfig({ r, lora_alpha: 4, target_modules }),
    tensors: new Map(
      Array.from(adapterShapes(tied.config, { r, target_modules }), ([name, shape]) => {
        const data = new Float32Array(shape[0] * shape[1]).fill(0.25);
        return [name, { dtype: "F32", shape, data }];
      }),
    ),
  };
  tied.weights!.close();
  const output = folder.file("tied");
  await merge(gpu, fixturePath("llama_tied"), adapter, output);
  const before = readTensors("llama_tied/model.safetensors");
  const { config, weights } = openModel(output);
  assert.ok(config.tie_word_embeddings);
  for (const [name, { data }] of before) {
    const after = new Float32Array(data.length);
    await weights!.read(name, 0, new Uint8Array(after.buffer));
    // Two ranks of 0.25 · 0.25, times 4 / 2.
    const added = name.endsWith("o_proj.weight") ? 0.25 : 0;
    data.forEach((value, i) => assert.equal(after[i], Math.fround(value + added), `${name} ${i}`));
  }
  weights!.close();

  const all = readAdapter(fixturePath("adapter_all"));
  const [fromMeta, fromHuggingFace] = [folder.file("meta"), folder.file("huggingface")];
  await merge(gpu, fixturePath("meta"), all, fromMeta);
  await merge(gpu, fixturePath("llama"), all, fromHuggingFace);
  const [a, b] = [fromMeta, fromHuggingFace].map((path) =>
    Deno.readFileSync(join(path, "model.safetensors"))
  );
  assert.equal(a.findIndex((byte, i) => byte !== b[i]), -1);
});

gpuTest(
  "merge: the difference of logits is float32's where the merge is right, else large",
  async (gpu) => {
    using folder = new TemporaryFolder();
    const model = fixturePath("llama"), output = folder.file("merged");
    const adapter = readAdapter(fixturePath("adapter_all"));
    await merge(gpu, model, adapter, output);
    const right = await compareLogits({ model, output, gpu: "auto" }, adapter);
    assert.ok(right);
    assert.deepEqual([right.precision, right.rows], ["fp32", 52]);
    assert.ok(right.largest > 0 && right.largest < 5e-5, `${right.largest}`);
    assert.ok(right.largestLogit > 3 && right.largestLogit < 30, `${right.largestLogit}`);
    const weaker = { ...adapter, config: { ...adapter.config, lora_alpha: 7 } };
    const wrong = await compareLogits({ model, output, gpu: "auto" }, weaker);
    assert.ok(wrong!.largest > 0.05, `${wrong!.largest}`);
  },
);

/** 160 blocks of 8,192 need 280 GB even in f16. */
const ignored = gpu === undefined
  ? " (ignored: no GPU adapter)"
  : Deno.systemMemoryInfo().available > 270e9
  ? " (ignored: this machine has that memory)"
  : "";

Deno.test({
  name: `merge: a model beyond the GPU's memory is not compared${ignored}`,
  ignore: ignored !== "",
  async fn() {
    using folder = new TemporaryFolder();
    const config = {
      ...presetConfig("llama2-7b"),
      hidden_size: 8192,
      intermediate_size: 28672,
      num_hidden_layers: 160,
      num_attention_heads: 64,
      num_key_value_heads: 64,
      head_dim: 128,
    };
    const model = folder.file("model");
    writeZeros(model, config, "F16");
    const given = { r: 2, target_modules: ["q_proj"], layers_to_transform: [0] };
    const tensors = new Map(
      adapterShapes(config, given).entries().map(([name, shape]) => {
        const data = new Float32Array(shape.reduce((size, n) => size * n, 1));
        return [name, { shape, data }];
      }),
    );
    const adapter = { config: adapterConfig(given), tensors };
    assert.equal(await compareLogits({ model, output: model, gpu: "auto" }, adapter), undefined);
  },
});

Deno.test("convert: Meta's folder becomes the Hugging Face folder, to the byte", async () => {
  using folder = new TemporaryFolder();
  const flags = { model: fixturePath("meta"), output: folder.file("converted") };
  const source = await openFiles(flags);
  const written = await writeModel(source, flags, "Converting");
  source.weights.close();
  const expected = Deno.readFileSync(fixturePath("llama/model.safetensors"));
  const actual = Deno.readFileSync(join(flags.output, "model.safetensors"));
  assert.equal(actual.length, expected.length);
  assert.equal(actual.findIndex((byte, i) => byte !== expected[i]), -1);
  const bytes = [...readTensors("llama/model.safetensors").values()]
    .reduce((sum, { data }) => sum + data.byteLength, 0);
  assert.deepEqual(written, { output: flags.output, tensors: 30, bytes });
});

Deno.test("convert: generation_config.json and the tokenizer's files go along", async () => {
  using folder = new TemporaryFolder();
  const model = folder.file("model"), tokenizer = fixturePath("tiny_tokenizer.model");
  const config = { ...presetConfig("tiny"), vocab_size: 360 };
  const tensors = Array.from(weightShapes(config), ([name, shape]) => {
    const data = [new Uint8Array(4 * shape.reduce((a, b) => a * b, 1))];
    return { name, dtype: "F32" as const, shape, data };
  });
  await writeHuggingFace(model, config, tensors);
  const generation = '{"eos_token_id": [2, 5]}';
  Deno.writeTextFileSync(join(model, "generation_config.json"), generation);
  const flags = { model, tokenizer, output: folder.file("output"), dtype: "bf16" as const };
  const source = await openFiles(flags);
  const written = await writeModel(source, flags, "Converting");
  source.weights.close();
  assert.equal(
    "bytes" in written && written.bytes,
    tensors.reduce((sum, { data: [zeros] }) => sum + zeros.length, 0) / 2,
  );
  assert.deepEqual(names(flags.output), [
    ...["config.json", "generation_config.json", "model.safetensors"],
    ...["tokenizer.json", "tokenizer.model", "tokenizer_config.json"],
  ]);
  const read = (name: string) => Deno.readTextFileSync(join(flags.output, name));
  assert.equal(read("generation_config.json"), generation);
  assert.equal(JSON.parse(read("config.json")).torch_dtype, "bfloat16");
  // Without being told, all of the tokenizer beside the model is taken.
  const settings = ["tokenizer.json", "tokenizer_config.json"];
  for (const name of settings) Deno.writeTextFileSync(join(flags.output, name), "{}");
  const again = { model: flags.output, output: folder.file("again") };
  const second = await openFiles(again);
  await writeModel(second, again, "Converting");
  second.weights.close();
  assert.deepEqual(names(again.output), names(flags.output));
});

Deno.test("convert: a tensor that can't be read leaves nothing behind", async () => {
  using folder = new TemporaryFolder();
  const flags = { model: fixturePath("llama"), output: folder.file("output") };
  const source = await openFiles(flags);
  const { read } = source.weights;
  source.weights.read = (name, begin, target) =>
    name.includes("layers.1")
      ? Promise.reject(new UserError("llama: became shorter while it was read"))
      : read(name, begin, target);
  await assert.rejects(writeModel(source, flags, "Converting"), /became shorter/);
  source.weights.close();
  assert.ok(!exists(flags.output));
  assert.deepEqual(names(folder.path), []);
});
