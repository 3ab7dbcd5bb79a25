/** Folders with weights that bitsandbytes quantised, beside what tests/fixtures/make_bnb.py computes. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { EXACT } from "../../../../kernels/ops/numerics.ts";
import { DYNAMIC_MAP } from "../../../../kernels/ops/weights/nf4_values.ts";
import { loadWeights } from "../../../../model/checkpoint/load.ts";
import { openModel } from "../../../../model/checkpoint/source.ts";
import { weightShapes } from "../../../../model/families/config.ts";
import { rewrittenTensors } from "../../../../model/formats/rewrite.ts";
import type { Plane, WeightSource } from "../../../../model/formats/weights.ts";
import { writeHuggingFace } from "../../../../model/formats/write_huggingface.ts";
import { makeBatch } from "../../../../model/transformer/batch.ts";
import { Llama } from "../../../../model/transformer/llama.ts";
import { scoreMode } from "../../../../model/transformer/modes.ts";
import { frozenKinds } from "../../../../model/transformer/quantization.ts";
import { fixturePath } from "../../../fixtures.ts";
import { assertClose, gpuTest } from "../../../kernels/harness.ts";
import { openHearing } from "../hearing.ts";
import { dequantizeNf4 } from "../../../kernels/ops/weights/nf4_reference.ts";
import { assertSameValues } from "../../../same.ts";

interface Expected {
  /** Of the f32 values of every quantised weight. */
  sha256: Record<string, string>;
  ids: number[];
  positions: number[];
  logits: number[][];
}

/** What is said on stderr when a folder is opened. */
const SAID: Record<string, RegExp> = {
  int8: /^\S+config\.json: weights of LLM\.int8\(\) are read as they are, .* llm_int8_threshold 6$/,
};

/** The folders, how they are stored and as what kernels read them. */
const FOLDERS: [folder: string, stored: string, kind: string | undefined][] = [
  ["nf4_double", "nf4", "nf4"],
  ["nf4_bf16", "nf4", "nf4_f32"],
  ["nf4_cpu", "nf4", "nf4_f32"],
  ["fp4", "fp4", undefined],
  ["int8", "int8", "int8_rows"],
];

const expectedOf = (folder: string): Expected =>
  JSON.parse(Deno.readTextFileSync(fixturePath(`bnb/${folder}/expected.json`)));

/** Nothing else is asked for than what the files have. */
const AS_STORED = {
  quantization: "none",
  double_quantization: true,
  quantization_skip: [],
} as const;

async function wholeValues(source: WeightSource, name: string): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(source.info(name).bytes);
  await source.read(name, 0, bytes);
  return bytes;
}

/** A plane, read by parts of odd sizes. */
async function planeBytes(plane: Plane): Promise<Uint8Array<ArrayBuffer>> {
  const { bytes } = plane;
  const all = new Uint8Array(bytes);
  for (let at = 0, size = 1; at < bytes; at += size, size = size * 3 % 1001 + 1) {
    await plane.read(at, all.subarray(at, Math.min(bytes, at + size)));
  }
  await assert.rejects(plane.read(bytes - 3, new Uint8Array(4)), RangeError);
  return all;
}

/** What weights of these kinds stand for, by the meaning of their planes. */
const MEANINGS: Record<string, (planes: Uint8Array<ArrayBuffer>[], count: number) => Float32Array> =
  {
    nf4([codes, groups], count) {
      const floats = new Float32Array(groups.buffer);
      const absmax = Float32Array.from({ length: Math.ceil(count / 64) }, (_, block) => {
        const at = Math.floor(block / 256) * 264;
        const scale = floats[(at + 256) / 4], offset = floats[(at + 260) / 4];
        return Math.fround(DYNAMIC_MAP[groups[at + block % 256]] * scale) + offset;
      });
      return dequantizeNf4({ count, codes, absmax });
    },
    nf4_f32: ([codes, absmax], count) =>
      dequantizeNf4({ count, codes, absmax: new Float32Array(absmax.buffer) }),
    int8_rows([codes, scales], count) {
      const floats = new Float32Array(scales.buffer), columns = count / floats.length;
      return Float32Array.from(new Int8Array(codes.buffer, 0, count), (code, i) => {
        return code * floats[Math.floor(i / columns)];
      });
    },
  };

for (const [folder, stored, kind] of FOLDERS) {
  const path = fixturePath(`bnb/${folder}`),
    { sha256, ids, positions, logits } = expectedOf(folder);

  Deno.test(`bitsandbytes: ${folder} has the values that its codes stand for, to the bit`, async () => {
    const { source, said } = openHearing(path);
    try {
      const words = SAID[folder];
      assert.equal(said.length, words === undefined ? 0 : 1);
      if (words !== undefined) assert.match(said[0], words);
      const shapes = weightShapes(source.config);
      for (const [name, shape] of shapes) {
        const info = source.info(name), hash = sha256[name];
        assert.deepEqual(info.shape, shape);
        assert.equal(info.stored, hash === undefined ? undefined : stored, name);
        if (hash === undefined) {
          assert.equal(source.quantized(name), undefined, name);
          continue;
        }
        const all = await wholeValues(source, name);
        assert.equal(createHash("sha256").update(all).digest("hex"), hash, name);
        // Begin, length and place in memory of any kind: within a number, over blocks, at odd places.
        for (const [begin, length] of [[0, 4], [1, 6], [250, 12], [255, 2049], [1020, 1 << 13]]) {
          for (const offset of [0, 1, 4]) {
            const memory = new Uint8Array(length + offset + 1).fill(7);
            await source.read(name, begin, memory.subarray(offset, offset + length));
            assertSameValues(memory.slice(offset, -1), all.slice(begin, begin + length), name);
            assert.equal(memory.at(-1), 7);
          }
        }
      }
      assert.ok(Object.keys(sha256).every((name) => shapes.has(name)));
    } finally {
      source.close();
    }
  });

  Deno.test(`bitsandbytes: ${folder} is read by kernels ${kind ? `as ${kind}` : "as values"}`, async () => {
    const { source } = openHearing(path);
    try {
      for (const name of Object.keys(sha256)) {
        const quantized = source.quantized(name);
        assert.equal(quantized?.kind, kind, name);
        if (quantized === undefined) continue;
        const planes = await Promise.all(quantized.planes.map(planeBytes));
        const values = new Float32Array((await wholeValues(source, name)).buffer);
        const found = MEANINGS[quantized.kind](planes, values.length);
        if (kind === "int8_rows") {
          // A scale is one number there, the product of two here.
          assertClose(found, values, { atol: 0, rtol: 2 ** -22, what: name });
        } else assertSameValues(found, values, name);
      }
    } finally {
      source.close();
    }
  });

  gpuTest(`bitsandbytes: logits of ${folder} equal transformers' with its values`, async (gpu) => {
    for (const held of [kind, undefined]) {
      const source = openModel(path), { config, weights } = source;
      const model = new Llama(gpu.memory, {
        config,
        numerics: EXACT,
        frozen: held === undefined ? undefined : frozenKinds(config, AS_STORED, weights),
        mode: scoreMode({ maxTokens: 64, maxTargets: 64 }),
      });
      for (const { name, operand } of model.weights) {
        assert.equal(operand.kind.name, name in sha256 ? held ?? "f32" : "f32", name);
      }
      model.initialize(gpu);
      await loadWeights(gpu, model, source, { seed: 0 });
      const document = { ids: Uint32Array.from(ids), targets: [], weight: 0 };
      const result = model.logits(gpu, {
        ...makeBatch([document], null),
        targetRows: Uint32Array.from(positions),
        targetCount: positions.length,
      });
      const values = await gpu.readF32(result), width = result.rowSize;
      positions.forEach((position, row) => {
        const found = values.slice(row * width, row * width + config.vocab_size);
        assertClose(found, Float32Array.from(logits[row]), {
          atol: 1e-4,
          rtol: 0,
          what: `${held} ${position}`,
        });
      });
    }
  });
}

Deno.test("bitsandbytes: a folder is written again with the values, and as one that isn't quantised", async () => {
  const path = fixturePath("bnb/nf4_double"), { sha256 } = expectedOf("nf4_double");
  const root = Deno.makeTempDirSync(), folder = join(root, "dense");
  const { source } = openHearing(path);
  let dense: WeightSource | undefined;
  try {
    await writeHuggingFace(folder, source.config, rewrittenTensors(source), { base: path });
    const json = JSON.parse(Deno.readTextFileSync(join(folder, "config.json")));
    assert.ok(!Object.hasOwn(json, "quantization_config"));
    assert.equal(json.hidden_size, 176);
    const files = Array.from(Deno.readDirSync(folder), ({ name }) => name);
    assert.deepEqual(files.sort(), ["config.json", "expected.json", "model.safetensors"]);
    const opened = openHearing(folder);
    dense = opened.source;
    assert.deepEqual(opened.said, []);
    for (const [name, hash] of Object.entries(sha256)) {
      assert.equal(dense.info(name).stored, undefined);
      const values = await wholeValues(dense, name);
      assert.equal(createHash("sha256").update(values).digest("hex"), hash, name);
    }
  } finally {
    source.close();
    dense?.close();
    Deno.removeSync(root, { recursive: true });
  }
});
