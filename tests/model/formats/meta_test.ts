import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { type Batch, makeBatch } from "../../../model/transformer/batch.ts";
import { weightShapes } from "../../../model/families/config.ts";
import { fromFloat32, toFloat32 } from "../../../model/formats/half.ts";
import { openHuggingFace } from "../../../model/formats/huggingface.ts";
import { openMeta } from "../../../model/formats/meta.ts";
import { writeJson } from "../../../model/files/json_file.ts";
import type { FileDtype, WeightSource } from "../../../model/formats/weights.ts";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { scoreMode } from "../../../model/transformer/modes.ts";
import { Llama } from "../../../model/transformer/llama.ts";
import { loadWeights } from "../../../model/checkpoint/load.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { fixturePath, readFixture } from "../../fixtures.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { op, pickleDictionary, pthFile, type PthTensorToWrite, zipFile } from "./pth_writer.ts";
import { assertSameValues } from "../../same.ts";

let root = "";
Deno.test.beforeAll(() => {
  root = Deno.makeTempDirSync();
});
Deno.test.afterAll(() => Deno.removeSync(root, { recursive: true }));

async function readWhole(source: WeightSource, name: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(source.info(name).bytes);
  await source.read(name, 0, bytes);
  return bytes;
}

/** The fixtures that PyTorch wrote; two shards need an even vocabulary, so their last token is cut off. */
const WRITTEN: { folder: string; dtype: FileDtype; layers: number; vocabulary: number }[] = [
  { folder: "meta", dtype: "F32", layers: 3, vocabulary: 131 },
  { folder: "meta_2", dtype: "F32", layers: 1, vocabulary: 130 },
  { folder: "meta_bf16", dtype: "BF16", layers: 1, vocabulary: 131 },
  { folder: "meta_f16", dtype: "F16", layers: 1, vocabulary: 130 },
];

for (const { folder, dtype, layers, vocabulary } of WRITTEN) {
  Deno.test(`every weight of ${folder} has the bytes of the Hugging Face form`, async () => {
    const meta = openMeta(fixturePath(folder));
    const theirs = openHuggingFace(fixturePath("llama"), { layers });
    // The layout doesn't say the context: Llama 2's.
    const said = { vocab_size: vocabulary, max_position_embeddings: 4096 };
    assert.deepEqual(meta.config, { ...theirs.config, ...said });
    for (const [name, shape] of weightShapes(meta.config)) {
      const wide = toFloat32(await readWhole(theirs, name), "F32");
      const count = shape.reduce((a, b) => a * b, 1);
      const expected = new Uint8Array(count * (dtype === "F32" ? 4 : 2));
      fromFloat32(wide.subarray(0, count), dtype, expected);
      assert.deepEqual(meta.info(name), { dtype, shape, bytes: expected.length });
      assertSameValues(await readWhole(meta, name), expected, name);
      // And in pieces that begin anywhere.
      const pieces = new Uint8Array(expected.length), step = 1019;
      for (let at = 0; at < pieces.length; at += step) {
        await meta.read(name, at, pieces.subarray(at, at + step));
      }
      assertSameValues(pieces, expected, `${name} in pieces`);
    }
    meta.close();
    theirs.close();
  });
}

/** The logits at every position of a text. */
async function logitsOf(gpu: Gpu, folder: string, layers: number, ids: number[]) {
  const source = openModel(fixturePath(folder), layers);
  const model = new Llama(gpu.memory, {
    config: source.config,
    numerics: EXACT,
    mode: scoreMode({ maxTokens: ids.length, maxTargets: ids.length }),
  });
  model.initialize(gpu);
  await loadWeights(gpu, model, source, { seed: 0 });
  const batch: Batch = {
    ...makeBatch([{ ids: Uint32Array.from(ids), targets: [], weight: 0 }]),
    targetRows: Uint32Array.from(ids.keys()),
    targetCount: ids.length,
  };
  const tensor = model.logits(gpu, batch);
  return { logits: await gpu.readF32(tensor), width: tensor.shape[1] };
}

gpuTest("one and two shards give the logits of the Hugging Face form", async (gpu) => {
  const ids = Array.from(readFixture("samples.json")[9].ids).filter((id) => id < 130);
  for (const { folder, layers, vocabulary } of WRITTEN.slice(0, 2)) {
    const ours = await logitsOf(gpu, folder, layers, ids);
    const theirs = await logitsOf(gpu, "llama", layers, ids);
    let largest = 0;
    for (let row = 0; row < ids.length; row++) {
      for (let token = 0; token < vocabulary; token++) {
        const expected = theirs.logits[row * theirs.width + token];
        assert.equal(ours.logits[row * ours.width + token], expected, `${folder} ${row} ${token}`);
        largest = Math.max(largest, Math.abs(expected));
      }
    }
    assert.ok(largest > 1);
  }
});

/** A small model: Meta's params.json and the whole tensors in Meta's names, a byte pattern each. */
const PARAMS = {
  dim: 64,
  n_layers: 2,
  n_heads: 8,
  n_kv_heads: 8,
  vocab_size: 24,
  multiple_of: 4,
  norm_eps: 1e-5,
};

type Matrices = Record<string, { shape: number[]; data: Float32Array }>;

function matrices(): Matrices {
  const all: Matrices = {};
  const add = (name: string, ...shape: number[]) => {
    const count = shape.reduce((a, b) => a * b, 1), index = Object.keys(all).length;
    const data = Float32Array.from({ length: count }, (_, i) => index + i / 4096);
    all[`${name}.weight`] = { shape, data };
  };
  add("tok_embeddings", 24, 64);
  for (let layer = 0; layer < PARAMS.n_layers; layer++) {
    for (const name of ["wq", "wk", "wv", "wo"]) add(`layers.${layer}.attention.${name}`, 64, 64);
    add(`layers.${layer}.feed_forward.w1`, 96, 64);
    add(`layers.${layer}.feed_forward.w2`, 64, 96);
    add(`layers.${layer}.feed_forward.w3`, 96, 64);
    add(`layers.${layer}.attention_norm`, 64);
    add(`layers.${layer}.ffn_norm`, 64);
  }
  add("norm", 64);
  add("output", 24, 64);
  return all;
}

/** Which axis a tensor is cut along, as Meta's model.py declares its layers; none of norms. */
function axisOf(name: string, embedding: 0 | 1): 0 | 1 | undefined {
  if (name.startsWith("tok_embeddings")) return embedding;
  if (name.includes("norm")) return undefined;
  return /\.(wo|w2)\./.test(name) ? 1 : 0;
}

/** One shard's part of a tensor. */
function cut({ shape, data }: Matrices[string], axis: 0 | 1 | undefined, part: number, of: number) {
  if (axis === undefined) return { shape, data };
  const [rows, columns] = shape;
  if (axis === 0) {
    const size = data.length / of;
    return { shape: [rows / of, columns], data: data.subarray(part * size, (part + 1) * size) };
  }
  const width = columns / of, values: number[] = [];
  for (let row = 0; row < rows; row++) {
    values.push(...data.subarray(row * columns + part * width, row * columns + (part + 1) * width));
  }
  return { shape: [rows, width], data: Float32Array.from(values) };
}

type Shard = Record<string, PthTensorToWrite>;
let folders = 0;

/** Writes a folder of so many shards; `change` may spoil one. */
function writeMeta(
  { shards = 1, embedding = 1 as 0 | 1, params = {} as Record<string, unknown> } = {},
  change: (shard: Shard, index: number) => void = () => {},
): string {
  const folder = join(root, `meta${folders++}`), all = matrices();
  Deno.mkdirSync(folder);
  writeJson(join(folder, "params.json"), { ...PARAMS, ...params });
  for (let index = 0; index < shards; index++) {
    const shard: Shard = {};
    for (const [name, matrix] of Object.entries(all)) {
      const { shape, data } = cut(matrix, axisOf(name, embedding), index, shards);
      shard[name] = { dtype: "F32", shape, bytes: new Uint8Array(data.slice().buffer) };
    }
    change(shard, index);
    Deno.writeFileSync(join(folder, `consolidated.0${index}.pth`), pthFile(shard));
  }
  return folder;
}

const META_NAMES: Record<string, string> = {
  "self_attn.q_proj": "attention.wq",
  "self_attn.k_proj": "attention.wk",
  "self_attn.v_proj": "attention.wv",
  "self_attn.o_proj": "attention.wo",
  "mlp.gate_proj": "feed_forward.w1",
  "mlp.down_proj": "feed_forward.w2",
  "mlp.up_proj": "feed_forward.w3",
  "input_layernorm": "attention_norm",
  "post_attention_layernorm": "ffn_norm",
  "model.layers": "layers",
  "model.norm": "norm",
  "model.embed_tokens": "tok_embeddings",
  "lm_head": "output",
};

/** What a weight should hold, by its Hugging Face name. */
function expectedOf(name: string): Float32Array {
  const meta = Object.entries(META_NAMES).reduce((text, [ours, theirs]) => {
    return text.replace(ours, theirs);
  }, name);
  const { shape, data } = matrices()[meta];
  if (!/[qk]_proj/.test(name)) return data;
  const out = new Float32Array(data.length), width = shape[1], d = 8;
  for (let head = 0; head < 8; head++) {
    for (let i = 0; i < d / 2; i++) {
      for (const j of [0, 1]) {
        const from = (head * d + 2 * i + j) * width, to = (head * d + j * d / 2 + i) * width;
        out.set(data.subarray(from, from + width), to);
      }
    }
  }
  return out;
}

Deno.test("1, 2, 4 and 8 shards, embedding split by columns or by rows", async () => {
  for (const shards of [1, 2, 4, 8]) {
    for (const embedding of [0, 1] as const) {
      const source = openMeta(writeMeta({ shards, embedding }));
      assert.equal(source.config.vocab_size, 24);
      assert.equal(source.config.intermediate_size, 96);
      for (const name of weightShapes(source.config).keys()) {
        const expected = new Uint8Array(expectedOf(name).buffer);
        const what = `${name} of ${shards} shards, axis ${embedding}`;
        assertSameValues(await readWhole(source, name), expected, what);
      }
      source.close();
    }
  }
});

Deno.test("layers: N reads only the first blocks, and checks only them", async () => {
  const folder = writeMeta({ shards: 2 }, (shard) => delete shard["layers.1.ffn_norm.weight"]);
  const source = openMeta(folder, { layers: 1 });
  assert.equal(source.config.num_hidden_layers, 1);
  const name = "model.layers.0.mlp.down_proj.weight";
  assertSameValues(await readWhole(source, name), new Uint8Array(expectedOf(name).buffer), name);
  assert.throws(() => source.info("model.layers.1.mlp.down_proj.weight"), {
    name: "RangeError",
    message: `${folder} has no weight "model.layers.1.mlp.down_proj.weight"`,
  });
  source.close();
  refused(folder, /consolidated\.00\.pth: tensor "layers\.1\.ffn_norm\.weight" is missing$/);
  refused(folder, /^layers is 3, expected a whole number from 1 to the 2 of /, { layers: 3 });
});

Deno.test("RoPE's frequencies are ignored wherever they are", () => {
  const freqs: PthTensorToWrite = { dtype: "F32", shape: [4], bytes: new Uint8Array(16) };
  const folder = writeMeta({}, (shard) => {
    shard["rope.freqs"] = freqs;
    shard["layers.0.attention.inner_attention.rope.freqs"] = freqs;
  });
  openMeta(folder).close();
});

Deno.test("openModel tells Meta's layout by params.json without config.json", () => {
  const folder = writeMeta();
  const source = openModel(folder, 1);
  assert.equal(source.config.num_hidden_layers, 1);
  assert.equal(source.tokenizerPath, undefined);
  source.weights!.close();
  Deno.copyFileSync(fixturePath("tiny_tokenizer.model"), join(folder, "tokenizer.model"));
  const again = openModel(folder);
  assert.ok(again.tokenizerPath!.startsWith(folder));
  again.weights!.close();
  // Mistral's folders on Hugging Face hold both.
  Deno.copyFileSync(fixturePath("llama/config.json"), join(folder, "config.json"));
  assert.throws(
    () => openModel(folder),
    /: holds consolidated\.00\.pth, weights in Meta's layout, which is read from a folder with params\.json/,
  );
  assert.throws(() => openModel(join(root, "nowhere")), {
    name: "UserError",
    message: /or a model folder in Hugging Face's or Meta's layout, or a GGUF file$/,
  });
});

function refused(folder: string, problem: RegExp, options: { layers?: number } = {}): void {
  assert.throws(() => openMeta(folder, options).close(), (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.ok(error.message.includes(folder) || options.layers !== undefined, error.message);
    assert.match(error.message, problem);
    return true;
  });
}

Deno.test("refuses a folder without its files", () => {
  const folder = writeMeta({ shards: 2 });
  Deno.renameSync(join(folder, "consolidated.00.pth"), join(folder, "consolidated.02.pth"));
  refused(folder, /: consolidated\.00\.pth is missing$/);
  Deno.renameSync(join(folder, "consolidated.01.pth"), join(folder, "consolidated.00.pth"));
  refused(folder, /: consolidated\.01\.pth is missing$/);
  Deno.removeSync(join(folder, "consolidated.02.pth"));
  const alone =
    /00\.pth: tensor "tok_embeddings\.weight" has shape \[24,32\], but params\.json needs /;
  refused(folder, alone);
  Deno.removeSync(join(folder, "consolidated.00.pth"));
  refused(folder, /: consolidated\.00\.pth is missing$/);
  Deno.removeSync(join(folder, "params.json"));
  refused(folder, /params\.json: it does not exist$/);
});

Deno.test("refuses tensors that are missing, of another shape or dtype, or too many", () => {
  const spoil = (shards: number, change: (shard: Shard) => void) =>
    writeMeta({ shards }, (shard, index) => {
      if (index === shards - 1) change(shard);
    });
  const name = "layers.1.attention.wk.weight";
  refused(
    spoil(2, (shard) => delete shard[name]),
    /consolidated\.01\.pth: tensor "layers\.1\.attention\.wk\.weight" is missing$/,
  );
  const shaped = (shape: number[]) => (shard: Shard) => shard[name] = { ...shard[name], shape };
  refused(
    spoil(1, shaped([32, 128])),
    /00\.pth: tensor "layers.*wk\.weight" has shape \[32,128\], but params\.json needs \[64,64\]$/,
  );
  refused(
    spoil(2, shaped([64, 32])),
    /01\.pth: .* has shape \[64,32\], but params\.json needs \[32,64\] in each of 2 shards$/,
  );
  const half = spoil(2, (shard) => {
    const { shape, bytes } = shard[name];
    shard[name] = { dtype: "F16", shape, bytes: bytes.subarray(bytes.length / 2) };
  });
  refused(half, /01\.pth: tensor "layers\.1.*" is F16, but F32 in .*consolidated\.00\.pth$/);
  const extra = (name: string) => (shard: Shard) => shard[name] = shard["norm.weight"];
  for (
    const more of [
      "layers.2.ffn_norm.weight",
      "layers.0.attention.wq.bias",
      "layers.0.attention.wq.lora_a.weight",
      "layers.00.ffn_norm.weight",
      "layers.0.constructor.weight",
      "vision.weight",
    ]
  ) {
    const problem = new RegExp(
      `tensor "${more.replaceAll(".", "\\.")}" is no part of a Llama of 2 `,
    );
    refused(spoil(2, extra(more)), problem);
  }
});

Deno.test("refuses an embedding, heads or a width that can't be split so", () => {
  const embedding = (shards: number, shape: number[], params = {}) =>
    writeMeta({ shards, params }, (shard) => {
      const name = "tok_embeddings.weight", count = shape.reduce((a, b) => a * b, 1);
      shard[name] = { dtype: "F32", shape, bytes: new Uint8Array(4 * count) };
    });
  const needs = (text: string) =>
    new RegExp(`tensor "tok_embeddings\\.weight" has shape .*, but params\\.json needs ${text}$`);
  refused(embedding(1, [20, 64]), needs("\\[24,64\\]"));
  refused(embedding(2, [24, 16]), needs("an equal part of \\[24,64\\] in each of 2 shards"));
  refused(embedding(2, [24, 64]), needs("an equal part of \\[24,64\\] in each of 2 shards"));
  refused(embedding(1, [24]), needs("\\[24,64\\]"));
  refused(embedding(1, [24, 64, 1]), needs("\\[24,64\\]"));
  refused(embedding(1, [24, 60], { vocab_size: -1 }), needs("\\[vocab_size,64\\]"));
  refused(embedding(1, [0, 64], { vocab_size: -1 }), /vocab_size is 0, expected a whole number/);
  const heads = /params\.json: n_kv_heads is 2, expected a multiple of 4 shards$/;
  refused(writeMeta({ shards: 4, params: { n_kv_heads: 2 } }), heads);
  // 24 tokens can't be split by rows in equal parts that make 26.
  const odd = writeMeta({ shards: 2, params: { vocab_size: -1 } }, (shard) => {
    shard["tok_embeddings.weight"] = { dtype: "F32", shape: [25, 32], bytes: new Uint8Array(3200) };
  });
  refused(
    odd,
    /"output\.weight" has shape \[12,64\], but params\.json needs an equal part of \[25,64\]/,
  );
  const flat = writeMeta({}, (shard) => {
    const gate = "layers.0.feed_forward.w1.weight";
    shard[gate] = { ...shard[gate], shape: [96 * 64] };
  });
  refused(
    flat,
    /w1\.weight" has shape \[6144\], but params\.json needs two dimensions, the second 64$/,
  );
});

Deno.test("refuses a shard whose pickle names a callable, and closes the others", () => {
  const folder = writeMeta({ shards: 2 });
  const pickle = pickleDictionary({ "norm.weight": op.global("builtins", "eval") });
  const bytes = zipFile([{ name: "archive/data.pkl", content: pickle }]);
  Deno.writeFileSync(join(folder, "consolidated.01.pth"), bytes);
  refused(
    folder,
    /consolidated\.01\.pth: archive\/data\.pkl names builtins\.eval, which is not a ten/,
  );
});
