import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { configJson, type ModelConfig, weightShapes } from "../../../model/families/config.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { openHuggingFace } from "../../../model/formats/huggingface.ts";
import { fromFloat32 } from "../../../model/formats/half.ts";
import { type FolderOptions, writeHuggingFace } from "../../../model/formats/write_huggingface.ts";
import {
  tensorBytes,
  type TensorToWrite,
  writeSafetensors,
} from "../../../model/formats/write_safetensors.ts";
import type { FileDtype, WeightSource } from "../../../model/formats/weights.ts";
import { openHearing } from "./hearing.ts";
import { assertSameValues } from "../../same.ts";

let root = "";
Deno.test.beforeAll(() => {
  root = Deno.makeTempDirSync();
});
Deno.test.afterAll(() => Deno.removeSync(root, { recursive: true }));

const CONFIG: ModelConfig = {
  ...presetConfig("tiny"),
  vocab_size: 12,
  hidden_size: 8,
  intermediate_size: 12,
  head_dim: 8,
  num_attention_heads: 2,
  num_key_value_heads: 1,
};

/** The bytes of one weight: its position among the names, then counting up. */
function weightBytes(index: number, bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => index * 7 + i);
}

/** Every weight of a model; `shape` may change one. */
function weights(
  config: ModelConfig,
  dtype: FileDtype = "F32",
  changed: Record<string, number[]> = {},
): TensorToWrite[] {
  return [...weightShapes(config)].map(([name, expected], index) => {
    const shape = changed[name] ?? expected;
    const bytes = tensorBytes({ dtype, shape });
    return { name, dtype, shape, data: [weightBytes(index, bytes)] };
  });
}

/** A folder with `config.json` and the given single file, written without any check. */
async function folderWith(
  label: string,
  tensors: TensorToWrite[],
  config: ModelConfig = CONFIG,
): Promise<string> {
  const folder = join(root, label);
  Deno.mkdirSync(folder);
  Deno.writeTextFileSync(join(folder, "config.json"), JSON.stringify(configJson(config)));
  await writeSafetensors(join(folder, "model.safetensors"), tensors);
  return folder;
}

/** Reads every weight in two parts at once and compares it with what `weights` wrote. */
async function checkContents(
  source: WeightSource,
  written: ModelConfig,
  dtype: FileDtype,
): Promise<void> {
  const order = [...weightShapes(written).keys()];
  for (const [name, shape] of weightShapes(source.config)) {
    const bytes = tensorBytes({ dtype, shape });
    assert.deepEqual(source.info(name), { dtype, shape, bytes });
    const read = new Uint8Array(bytes), half = bytes >> 1;
    const parts = [read.subarray(0, half), read.subarray(half)];
    await Promise.all(parts.map((part, i) => source.read(name, i * half, part)));
    assertSameValues(read, weightBytes(order.indexOf(name), bytes), name);
  }
}

function refused(folder: string, message: RegExp, options: { layers?: number } = {}): void {
  assert.throws(() => openHuggingFace(folder, options).close(), (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.ok(error.message.includes(folder), error.message);
    assert.match(error.message, message);
    return true;
  });
}

Deno.test("a single file is written and read back, in every dtype", async () => {
  for (const dtype of ["F32", "F16", "BF16"] as const) {
    const folder = join(root, "deep", `single-${dtype}`);
    await writeHuggingFace(folder, CONFIG, weights(CONFIG, dtype).reverse());
    assert.deepEqual([...Deno.readDirSync(folder)].map((file) => file.name).sort(), [
      "config.json",
      "model.safetensors",
    ]);
    const source = openHuggingFace(folder);
    assert.deepEqual(source.config, CONFIG);
    await checkContents(source, CONFIG, dtype);
    source.close();
    const json = JSON.parse(Deno.readTextFileSync(join(folder, "config.json")));
    const torch_dtype = { F32: "float32", F16: "float16", BF16: "bfloat16" }[dtype];
    assert.equal(json.torch_dtype, torch_dtype);
  }
});

Deno.test("weights above the limit are sharded, with an index", async () => {
  const folder = join(root, "sharded");
  await writeHuggingFace(folder, CONFIG, weights(CONFIG), { maxFileBytes: 1000 });
  const files = [...Deno.readDirSync(folder)].map((file) => file.name).sort();
  const shards = files.filter((name) => /^model-\d{5}-of-\d{5}\.safetensors$/.test(name));
  assert.ok(shards.length >= 4);
  assert.equal(shards[0], `model-00001-of-0000${shards.length}.safetensors`);
  const index = JSON.parse(Deno.readTextFileSync(join(folder, "model.safetensors.index.json")));
  assert.deepEqual(new Set(Object.values(index.weight_map)), new Set(shards));
  const total = weights(CONFIG).reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
  assert.equal(index.metadata.total_size, total);
  const source = openHuggingFace(folder);
  await checkContents(source, CONFIG, "F32");
  source.close();
});

Deno.test("layers: N needs only the shards of the first blocks", async () => {
  const folder = join(root, "layers");
  await writeHuggingFace(folder, CONFIG, weights(CONFIG), { maxFileBytes: 1000 });
  const indexPath = join(folder, "model.safetensors.index.json");
  const files: Record<string, string> = JSON.parse(Deno.readTextFileSync(indexPath)).weight_map;
  const needed = new Set(
    [...weightShapes({ ...CONFIG, num_hidden_layers: 1 }).keys()].map((name) => files[name]),
  );
  const unneeded = [...new Set(Object.values(files))].filter((file) => !needed.has(file));
  assert.ok(unneeded.length > 0);
  for (const file of unneeded) Deno.removeSync(join(folder, file));
  const source = openHuggingFace(folder, { layers: 1 });
  assert.equal(source.config.num_hidden_layers, 1);
  await checkContents(source, CONFIG, "F32");
  source.close();
  refused(folder, /does not exist/);
  refused(folder, /layers is 3, expected a whole number from 1 to the 2 of /, { layers: 3 });
});

const TIED = { ...CONFIG, tie_word_embeddings: true };
const EMBEDDING = "model.embed_tokens.weight", HEAD = "lm_head.weight";

Deno.test("a tied embedding needs no lm_head, and an equal one beside it stays tied", async () => {
  const [embedding] = weights(TIED), { shape } = embedding;
  const copy: TensorToWrite = { ...embedding, name: HEAD };
  // Of other dtypes: 1 and -2 as F32, F16 and BF16, zeros of both signs.
  const numbers = (name: string, dtype: FileDtype, zero = 0): TensorToWrite => {
    const values = Float32Array.from({ length: 96 }, (_, i) => [1, -2, zero][i % 3]);
    const data = new Uint8Array(tensorBytes({ dtype, shape }));
    fromFloat32(values, dtype, data);
    return { name, dtype, shape, data: [data] };
  };
  const rest = weights(TIED).slice(1);
  const cases: Record<string, TensorToWrite[]> = {
    alone: [embedding],
    beside: [embedding, copy],
    zeros: [numbers(EMBEDDING, "F16"), numbers(HEAD, "F16", -0)],
    wider: [numbers(EMBEDDING, "BF16"), numbers(HEAD, "F32")],
    narrower: [numbers(EMBEDDING, "F16"), numbers(HEAD, "BF16")],
  };
  for (const [label, tensors] of Object.entries(cases)) {
    const folder = await folderWith(`tied-${label}`, [...tensors, ...rest], TIED);
    const { source, said } = openHearing(folder);
    assert.deepEqual(source.config, TIED, label);
    assert.deepEqual(said, [], label);
    assert.throws(() => source.info(HEAD), RangeError);
    source.close();
  }
  refused(await folderWith("untied", weights(TIED)), /tensor "lm_head.weight" is missing/);
});

Deno.test("an lm_head that differs from a tied embedding unties it, and a written folder says so", async () => {
  const [embedding] = weights(TIED), bytes = weightBytes(0, 384);
  bytes[383] ^= 1;
  const last: TensorToWrite = { ...embedding, name: HEAD, data: [bytes] };
  const cases = { other: weights(CONFIG), last: [...weights(TIED), last] };
  for (const [label, tensors] of Object.entries(cases)) {
    const folder = await folderWith(`untied-${label}`, tensors, TIED);
    const { source, said } = openHearing(folder);
    assert.deepEqual(source.config, CONFIG);
    assert.deepEqual(said, [
      `${join(folder, "config.json")} says tie_word_embeddings true, but lm_head.weight of ` +
      `${join(folder, "model.safetensors")} differs from model.embed_tokens.weight: ` +
      "the model is read as untied",
    ]);
    const read = new Uint8Array(384), expected = label === "last" ? bytes : weightBytes(20, 384);
    await source.read(HEAD, 0, read);
    assert.deepEqual(read, expected);
    const copy = join(root, `copy-${label}`);
    await writeHuggingFace(copy, source.config, weights(CONFIG), { base: folder });
    source.close();
    const json = JSON.parse(Deno.readTextFileSync(join(copy, "config.json")));
    assert.equal(json.tie_word_embeddings, false);
    const again = openHearing(copy);
    assert.deepEqual([again.source.config, again.said], [CONFIG, []]);
    again.source.close();
  }
  const sharded = join(root, "untied-shards");
  await writeHuggingFace(sharded, CONFIG, weights(CONFIG), { maxFileBytes: 1000 });
  Deno.writeTextFileSync(join(sharded, "config.json"), JSON.stringify(configJson(TIED)));
  const { source, said } = openHearing(sharded);
  assert.deepEqual([source.config, said.length], [CONFIG, 1]);
  await checkContents(source, CONFIG, "F32");
  source.close();
  const longer = { ...last, shape: [13, 8], data: [weightBytes(0, 416)] };
  refused(
    await folderWith("untied-shape", [...weights(TIED), longer], TIED),
    /tensor "lm_head.weight" has shape \[13,8\], but config\.json needs \[12,8\]/,
  );
});

Deno.test("tensors that a Llama does not use are ignored, biases are not", async () => {
  const extra = (name: string): TensorToWrite => (
    { name, dtype: "F32", shape: [2], data: [new Uint8Array(8)] }
  );
  const rotary = extra("model.layers.0.self_attn.rotary_emb.inv_freq");
  openHuggingFace(await folderWith("rotary", [...weights(CONFIG), rotary])).close();
  const bias = extra("model.layers.0.self_attn.q_proj.bias");
  refused(
    await folderWith("bias", [...weights(CONFIG), bias]),
    /q_proj\.bias" is a bias, expected/,
  );
});

Deno.test("refuses a missing tensor, a wrong shape and a wrong dtype by name", async () => {
  const name = "model.layers.1.mlp.up_proj.weight";
  const without = weights(CONFIG).filter((tensor) => tensor.name !== name);
  refused(
    await folderWith("missing", without),
    /"model\.layers\.1\.mlp\.up_proj\.weight" is missing/,
  );
  const transposed = weights(CONFIG, "F32", { [name]: [8, 12] });
  refused(
    await folderWith("shape", transposed),
    /up_proj\.weight" has shape \[8,12\], but config\.json needs \[12,8\]/,
  );
  const flat = weights(CONFIG, "F32", { [name]: [96] });
  refused(await folderWith("flat", flat), /has shape \[96\], but config\.json needs \[12,8\]/);
  const folder = await folderWith("dtype", weights(CONFIG));
  const path = join(folder, "model.safetensors");
  const bytes = Deno.readFileSync(path), dtype = '"model.norm.weight":{"dtype":"';
  const header = new TextDecoder("ascii").decode(bytes); // one character a byte
  bytes.set(new TextEncoder().encode("I32"), header.indexOf(dtype) + dtype.length);
  Deno.writeFileSync(path, bytes);
  refused(folder, /"model\.norm\.weight" has dtype I32, expected F32, F16 or BF16/);
});

Deno.test("refuses a folder that is missing, empty or has no weights", () => {
  refused(join(root, "nowhere"), /config\.json: it does not exist$/);
  const folder = join(root, "no-weights");
  Deno.mkdirSync(folder);
  refused(folder, /: is empty, expected a model folder with config\.json$/);
  Deno.writeTextFileSync(join(folder, "notes.txt"), "");
  refused(folder, /config\.json: it does not exist$/);
  Deno.writeTextFileSync(join(folder, "config.json"), "{");
  refused(folder, /config\.json: is not valid JSON/);
  Deno.writeTextFileSync(join(folder, "config.json"), JSON.stringify(configJson(CONFIG)));
  refused(
    folder,
    /: expected one of model\.safetensors, model\.safetensors\.index\.json, pytorch_model\.bin, /,
  );
});

/** A sharded model whose index is replaced by what `change` makes of its weight_map. */
async function withIndex(
  label: string,
  change: (files: Record<string, unknown>) => unknown,
): Promise<string> {
  const folder = join(root, label);
  await writeHuggingFace(folder, CONFIG, weights(CONFIG), { maxFileBytes: 1000 });
  const path = join(folder, "model.safetensors.index.json");
  const index = JSON.parse(Deno.readTextFileSync(path));
  Deno.writeTextFileSync(path, JSON.stringify(change(index.weight_map)));
  return folder;
}

Deno.test("refuses an index that is malformed or that lies", async () => {
  refused(await withIndex("list", () => []), /expected an object with a "weight_map"/);
  refused(
    await withIndex("map", () => ({ weight_map: ["a"] })),
    /expected an object with a "weight/,
  );
  const name = "model.norm.weight";
  const to = (label: string, file: unknown) =>
    withIndex(label, (files) => ({ weight_map: { ...files, [name]: file } }));
  refused(await to("number", 3), /"model\.norm\.weight" is said to be in 3, expected the name/);
  refused(await to("absent", undefined), /index\.json: tensor "model\.norm\.weight" is missing/);
  refused(await to("gone", "other.safetensors"), /other\.safetensors: it does not exist/);
  const first = (files: Record<string, unknown>) => files["model.embed_tokens.weight"];
  const wrong = await withIndex("wrong", (files) => (
    { weight_map: { ...files, [name]: first(files) } }
  ));
  refused(wrong, /"model\.norm\.weight" is missing, though model\.safetensors\.index\.json says/);
});

Deno.test("an index can't name a file outside the folder", async () => {
  const outside = [
    "../x.safetensors",
    "/tmp/x.safetensors",
    "a/b.safetensors",
    "..\\x.safetensors",
  ];
  for (const [i, file] of [...outside, "C:x.safetensors", "..", "", "x\0.safetensors"].entries()) {
    const folder = await withIndex(`path${i}`, (files) => (
      { weight_map: { ...files, "model.norm.weight": file } }
    ));
    refused(folder, /expected the name of a \.safetensors file beside the index/);
  }
});

/** Expects a refusal to write that leaves no trace beside the target. */
async function notWritten(
  label: string,
  tensors: TensorToWrite[],
  error: Record<string, unknown>,
  options: FolderOptions = {},
): Promise<void> {
  const parent = join(root, label);
  const writing = writeHuggingFace(join(parent, "m"), CONFIG, tensors, options);
  await assert.rejects(writing, error);
  const left = await Array.fromAsync(Deno.readDir(parent)).catch(() => []);
  assert.deepEqual(left, []);
}

Deno.test("writeHuggingFace leaves nothing behind when it fails", async () => {
  function* broken(): Generator<Uint8Array> {
    yield new Uint8Array(4);
    throw new UserError("device lost");
  }
  const lastBroken = weights(CONFIG).map((tensor) => (
    tensor.name === "lm_head.weight" ? { ...tensor, data: broken() } : tensor
  ));
  await notWritten("broken", lastBroken, { name: "UserError", message: "device lost" });
  const missing = join(root, "no-such-tokenizer");
  const message = `cannot read ${missing}: it does not exist`;
  const files = [{ name: "tokenizer.model", content: { copyOf: missing } }];
  await notWritten("tokenizerless", weights(CONFIG), { name: "UserError", message }, {
    tokenizer: { files, others: "replaced" },
  });
});

Deno.test("writeHuggingFace takes exactly the model's weights", async () => {
  const all = weights(CONFIG), name = "RangeError";
  await notWritten("few", all.slice(1), { name, message: /embed_tokens\.weight" is not given/ });
  const extra = [...all, { ...all[0], name: "x" }];
  await notWritten("many", extra, { name, message: /"x" is no weight of this model/ });
  const turned = weights(CONFIG, "F32", { "lm_head.weight": [8, 12] });
  await notWritten("turned", turned, { name, message: /is \[8,12\], expected \[12,8\]/ });
});

Deno.test("writeHuggingFace overwrites nothing", async () => {
  const folder = join(root, "taken");
  Deno.mkdirSync(folder);
  await assert.rejects(writeHuggingFace(folder, CONFIG, weights(CONFIG)), {
    name: "UserError",
    message: `${folder} exists already and is not overwritten`,
  });
});
