/** Models written as GGUF files, read back: configuration, names, order of rows, types; and what is left of a failure. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { saveGguf } from "../../../../model/checkpoint/save_gguf.ts";
import { openModel } from "../../../../model/checkpoint/source.ts";
import { type ModelConfig, weightShapes } from "../../../../model/families/config.ts";
import { refuseFullDisk } from "../../../../model/files/free_space.ts";
import { dequantize } from "../../../../model/formats/gguf/dequantize.ts";
import { openGgufFile } from "../../../../model/formats/gguf/header.ts";
import { modelMetadata } from "../../../../model/formats/gguf/model_metadata.ts";
import type { GgufFormat } from "../../../../model/formats/gguf/quantization_mix.ts";
import { quantize } from "../../../../model/formats/gguf/quantize.ts";
import { Quantizers } from "../../../../model/formats/gguf/quantizers.ts";
import {
  storedBytes,
  tensorType,
  typeNumber,
} from "../../../../model/formats/gguf/tensor_types.ts";
import { openGguf } from "../../../../model/formats/gguf/weights.ts";
import { writeGguf, type WrittenType } from "../../../../model/formats/gguf/write_gguf.ts";
import { ggufTensors, takenDtype } from "../../../../model/formats/gguf/written_tensors.ts";
import { toFloat32 } from "../../../../model/formats/half.ts";
import { rewrittenTensors } from "../../../../model/formats/rewrite.ts";
import type { WeightSource } from "../../../../model/formats/weights.ts";
import { fixturePath } from "../../../fixtures.ts";
import { encode, memoryWeights, smallConfig } from "../../checkpoint/made_weights.ts";
import { assertSameValues } from "../../../same.ts";

const quantizers = new Quantizers();

/** A folder that is gone afterwards. */
async function inFolder(use: (file: string, folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync();
  try {
    await use(join(folder, "model.gguf"), folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** A source of numbers that are different everywhere. */
function made(config: ModelConfig): WeightSource {
  let next = 0;
  const weights = Array.from(weightShapes(config), ([name, shape]) => {
    const count = shape.reduce((a, b) => a * b, 1);
    const values = Float32Array.from({ length: count }, () => Math.sin(next++) * 3);
    return [name, { dtype: "F32" as const, bytes: encode(values, "F32") }] as const;
  });
  return memoryWeights(config, new Map(weights));
}

async function valuesOf(source: WeightSource, name: string): Promise<Float32Array> {
  const { dtype, bytes } = source.info(name), all = new Uint8Array(bytes);
  await source.read(name, 0, all);
  return toFloat32(all, dtype);
}

/** What a tensor's numbers are after they were written in a type. */
function expectedValues(values: Float32Array, type: WrittenType): Float32Array {
  if (type !== "F32" && type !== "F16" && type !== "BF16") {
    const blocks = new Uint8Array(storedBytes(type, [values.length]));
    quantize(type, values, blocks);
    const numbers = new Float32Array(values.length);
    const kind = tensorType(typeNumber(type)) ?? assert.fail(type);
    dequantize({ ...kind, name: type }, blocks, numbers);
    return numbers;
  }
  return toFloat32(encode(values, type), type);
}

// Heads of 24 rows, which pieces of a tensor do not end with; rows of 40 and 96 numbers, of which 40 are no whole blocks.
const CONFIG = smallConfig({
  vocab_size: 50,
  hidden_size: 96,
  intermediate_size: 40,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 24,
  attention_bias: true,
  rope_theta: 5000,
  rope_scaling: {
    type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 64,
  },
});

/** The type that a matrix is written in; rows of the down projection are no whole blocks. */
function expectedType(name: string, format: GgufFormat): WrittenType {
  if (format === "F32" || format === "F16" || format === "BF16") return format;
  if (name.includes("down_proj")) return "F16";
  if (name.startsWith("lm_head")) return "Q8_0";
  if (format !== "Q4_K_M") return format;
  return name.includes("layers.1.self_attn.v_proj") ? "Q8_0" : "Q5_0";
}

/** `general.file_type` of each format. */
const FILE_TYPES = { F32: 0, F16: 1, BF16: 32, Q8_0: 7, Q4_0: 2, Q4_K_M: 15 } as const;

for (const format of ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M"] as const) {
  Deno.test(`gguf: a model written in ${format} is the same model, each tensor in its type`, async () => {
    const source = made(CONFIG);
    await inFolder(async (path) => {
      const taken = rewrittenTensors(source, { dtype: (shape) => takenDtype(shape, format) });
      const keys = modelMetadata(CONFIG, { name: "made", format });
      await writeGguf(path, keys, ggufTensors(taken, CONFIG, format, quantizers));
      const read = openGguf(path), { file, metadata, tensors } = openGgufFile(path);
      try {
        assert.equal(metadata.number("general.file_type"), FILE_TYPES[format]);
        assert.deepEqual(
          { ...read.config, bos_token_id: 0, eos_token_id: 0, eos_token_ids: [] },
          { ...CONFIG, bos_token_id: 0, eos_token_id: 0, eos_token_ids: [] },
        );
        for (const [name, shape] of weightShapes(CONFIG)) {
          const expected = shape.length === 1 ? "F32" : expectedType(name, format);
          assert.equal(read.info(name).stored, expected, name);
          const values = await valuesOf(source, name);
          assertSameValues(await valuesOf(read, name), expectedValues(values, expected), name);
        }
        assert.equal(tensors.get("rope_freqs.weight")?.bytes, 48);
      } finally {
        read.close();
        file.close();
      }
    });
  });
}

Deno.test("gguf: a model that was read from a GGUF file is written as the same model", async () => {
  const path = fixturePath("gguf/byte_level-00001-of-00003.gguf"), source = openModel(path);
  const weights = source.weights ?? assert.fail(), { config, tokenizerPath } = source;
  await inFolder(async (file) => {
    const tensors = rewrittenTensors(weights, { dtype: (shape) => takenDtype(shape, "Q8_0") });
    const written = await saveGguf(file, { source, config, tensors, tokenizerPath }, "Q8_0");
    const read = openGguf(file);
    try {
      assert.equal(written.tensors, weightShapes(config).size + 1);
      assert.deepEqual(read.config, config);
      assert.ok(config.tie_word_embeddings);
      for (const name of weightShapes(config).keys()) {
        assert.equal(read.info(name).stored, weights.info(name).stored);
        const values = await valuesOf(weights, name);
        const type = read.info(name).stored === "Q8_0" ? "Q8_0" : "F32";
        assertSameValues(await valuesOf(read, name), expectedValues(values, type), name);
      }
    } finally {
      read.close();
      weights.close();
    }
  });
});

Deno.test("gguf: a file is written whole or not at all, and none is overwritten", async () => {
  await inFolder(async (path, folder) => {
    const metadata = modelMetadata(CONFIG, { name: "made", format: "F32" });
    const tensor = { name: "a", type: "F32", shape: [2, 4] } as const;
    const write = (data: Uint8Array[]) => writeGguf(path, metadata, [{ ...tensor, data }]);
    await assert.rejects(write([new Uint8Array(31)]), /"a" has only 31 of its 32 bytes/);
    await assert.rejects(write([new Uint8Array(30), new Uint8Array(3)]), /more than its 32 bytes/);
    assert.deepEqual([...Deno.readDirSync(folder)], []);
    await write([new Uint8Array(32)]);
    const before = Deno.readFileSync(path);
    assert.equal(before.length % 32, 0);
    await assert.rejects(write([new Uint8Array(32)]), /exists already and is not overwritten/);
    assertSameValues(Deno.readFileSync(path), before, "the file");
  });
});

Deno.test("gguf: what has no room, or what GGUF can't hold, is refused before anything is written", async () => {
  const file = join(dirname(fixturePath("gguf/expected.json")), "no", "such", "folder", "m.gguf");
  refuseFullDisk(file, 1);
  assert.throws(
    () => refuseFullDisk(file, 2 ** 52),
    /needs 4503599627370496 bytes, but \d+ are/,
  );
  const dynamic = { ...CONFIG, rope_scaling: { type: "dynamic", factor: 2 } } as const;
  assert.throws(
    () => modelMetadata(dynamic, { name: "m", format: "F16" }),
    /"dynamic", which GGUF/,
  );
  const large = made(CONFIG);
  const tensors = rewrittenTensors({
    ...large,
    read(_name, _begin, target) {
      new Float32Array(target.buffer, target.byteOffset, target.length / 4).fill(1e20);
      return Promise.resolve();
    },
  }, { dtype: (shape) => takenDtype(shape, "Q8_0") });
  await inFolder(async (path, folder) => {
    const metadata = modelMetadata(CONFIG, { name: "m", format: "Q8_0" });
    await assert.rejects(
      writeGguf(path, metadata, ggufTensors(tensors, CONFIG, "Q8_0", quantizers)),
      /tensor "model\.embed_tokens\.weight" has values beyond what Q8_0's scales hold; expected --dtype/,
    );
    assert.deepEqual([...Deno.readDirSync(folder)], []);
  });
});
