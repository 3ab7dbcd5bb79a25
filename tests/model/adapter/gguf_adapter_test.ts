/** Adapters written as GGUF files: B·A times what llama.cpp multiplies it by is PEFT's update, in GGUF's order of rows. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { EMBEDDING } from "../../../model/adapter/plan.ts";
import { loraNames } from "../../../model/adapter/tensors.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { adapterConfig } from "../../../model/adapter/adapter_config.ts";
import { type Adapter, checkAdapter } from "../../../model/adapter/adapter_folder.ts";
import { openGgufFile } from "../../../model/formats/gguf/header.ts";
import { ggufPlaces } from "../../../model/formats/gguf/names.ts";
import { writeGgufAdapter } from "../../../model/adapter/gguf_adapter.ts";
import { example, MODEL } from "./adapter_folders.ts";

/** B·A, times a factor. */
function product(b: Float32Array, a: Float32Array, rank: number, factor: number): number[] {
  const width = a.length / rank, rows = b.length / rank;
  return Array.from({ length: rows * width }, (_, i) => {
    const row = Math.floor(i / width), column = i % width;
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += b[row * rank + r] * a[r * width + column];
    return sum * factor;
  });
}

/** The tensors and the text keys of an adapter's file. */
async function written(adapter: Adapter) {
  const folder = Deno.makeTempDirSync(), path = join(folder, "adapter.gguf");
  try {
    const of = { model: MODEL, name: "adapter", what: "an adapter" };
    const { tensors: count } = await writeGgufAdapter(path, adapter, of);
    const { file, metadata, tensors } = openGgufFile(path);
    const values = new Map(Array.from(tensors, ([name, { shape, position, bytes }]) => {
      const data = new Uint8Array(bytes);
      file.readSync(position, data);
      return [name, { shape, data: new Float32Array(data.buffer) }] as const;
    }));
    file.close();
    assert.equal(values.size, count);
    return { metadata, values };
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** Ranks and alphas that differ, and a scale that is not alpha/r. */
const CONFIG = adapterConfig({
  r: 3,
  lora_alpha: 12,
  use_rslora: true,
  target_modules: ["q_proj", "k_proj", "down_proj", "embed_tokens"],
  rank_pattern: { k_proj: 2 },
  alpha_pattern: { down_proj: 5 },
});

Deno.test("gguf adapters: each update is PEFT's, rows of q and k permuted, the embedding's A transposed", async () => {
  const adapter = example(CONFIG), { metadata, values } = await written(adapter);
  assert.equal(metadata.text("general.type"), "adapter");
  assert.equal(metadata.text("adapter.type"), "lora");
  assert.equal(metadata.text("general.architecture"), "llama");
  assert.equal(metadata.number("adapter.lora.alpha"), 12);
  const plan = checkAdapter(adapter, MODEL, "an adapter"), placeOf = ggufPlaces(MODEL);
  assert.equal(values.size, 2 * plan.modules.size);
  for (const [module, { rank, scale }] of plan.modules) {
    const names = loraNames(module), { gguf, permuted } = placeOf(`${module}.weight`);
    const a = values.get(`${gguf}.lora_a`) ?? assert.fail(module);
    const b = values.get(`${gguf}.lora_b`) ?? assert.fail(module);
    const before = (name: string) => adapter.tensors.get(name)?.data ?? assert.fail(name);
    assert.equal(b.shape[1], rank);
    const flat = module === EMBEDDING ? transposed(a) : a.data;
    const found = product(b.data, flat, rank, 12 / rank);
    const expected = product(before(names.b), before(names.a), rank, scale);
    const width = expected.length / b.shape[0], half = MODEL.head_dim / 2;
    expected.forEach((value, i) => {
      const row = Math.floor(i / width), inHead = row % MODEL.head_dim;
      const to = permuted ? row - inHead + 2 * (inHead % half) + Math.floor(inHead / half) : row;
      const other = found[to * width + i % width];
      assert.ok(Math.abs(other - value) <= 1e-5 * Math.abs(value), `${module} row ${row}`);
    });
  }
});

function transposed(
  { shape: [rows, columns], data }: { shape: readonly number[]; data: Float32Array },
) {
  return data.map((_, i) => data[i % rows * columns + Math.floor(i / rows)]);
}

Deno.test("gguf adapters: plain LoRA keeps its numbers; more than that is refused by name", async () => {
  const plain = adapterConfig({ r: 4, lora_alpha: 8, target_modules: ["o_proj"] });
  const adapter = example(plain), { values } = await written(adapter);
  const { b } = loraNames("model.layers.0.self_attn.o_proj");
  assert.deepEqual(
    values.get("blk.0.attn_output.weight.lora_b")?.data,
    adapter.tensors.get(b)?.data,
  );
  const dora = example({ ...plain, use_dora: true });
  for (const [name, tensor] of dora.tensors) {
    if (!name.endsWith("magnitude_vector")) continue;
    tensor.data = new Float32Array(tensor.shape[0]).fill(1);
  }
  await assert.rejects(
    written(dora),
    /an adapter: use_dora is true, which an adapter in GGUF can't hold/,
  );
  for (const module of ["embed_tokens", "lm_head"]) {
    await assert.rejects(
      writeGgufAdapter("never.gguf", example({ ...plain, target_modules: [module] }), {
        model: { ...MODEL, tie_word_embeddings: true },
        name: "a",
        what: "an adapter",
      }),
      new RegExp(
        `an adapter: ${module} of a tied model is a target, which an adapter in GGUF can't hold`,
      ),
    );
  }
  await assert.rejects(
    writeGgufAdapter("never.gguf", example(plain), {
      model: { ...presetConfig("tiny"), hidden_size: 8 },
      name: "a",
      what: "an adapter",
    }),
    /an adapter: adapter tensor .* has shape/,
  );
});
