/** From a model's name to its weights on the GPU, to the bit, and fresh adapters. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { loraPlan } from "../../../model/adapter/plan.ts";
import { weightShapes } from "../../../model/families/config.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { LINEAR_MODULES, type LinearModule } from "../../../model/families/linear_modules.ts";
import { writeHuggingFace } from "../../../model/formats/write_huggingface.ts";
import type { FileDtype, WeightSource } from "../../../model/formats/weights.ts";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { numericsOf, scoreMode, trainMode } from "../../../model/transformer/modes.ts";
import { Llama, type LlamaOptions } from "../../../model/transformer/llama.ts";
import {
  cutRows,
  initializeAdapters,
  loadWeights,
  padRows,
  setParameter,
} from "../../../model/checkpoint/load.ts";
import { Parameter } from "../../../model/transformer/parameters.ts";
import { operandOf } from "../../../kernels/ops/weights/operand.ts";
import {
  type ModelSource,
  openModel,
  openModelWithTokenizer,
} from "../../../model/checkpoint/source.ts";
import { fixturePath, readModel } from "../../fixtures.ts";
import { float16ToFloat32, float32ToFloat16 } from "../../kernels/half_reference.ts";
import { download, gpuTest } from "../../kernels/harness.ts";
import { randomSubject, SMALL_CONFIG } from "../../train/runs.ts";
import { assertSameTensors, assertSameValues } from "../../same.ts";

const SIZES = { maxTokens: 4, maxTargets: 4 };
const HALF = numericsOf({ precision: "mixed", exact_products: false });
const HALVES: Pick<LlamaOptions, "numerics" | "mode">[] = [
  { numerics: EXACT, mode: scoreMode(SIZES) },
  { numerics: HALF, mode: scoreMode(SIZES) },
  { numerics: HALF, mode: trainMode({ ...SIZES, trained: "weights", checkpointing: "none" }) },
];

/** A model filled from what the user would name. */
async function load(
  gpu: Gpu,
  name: string,
  options: Partial<LlamaOptions> = {},
  { layers, ...how }: { seed?: number; layers?: number; chunkBytes?: number } = {},
): Promise<Llama> {
  const source = openModel(name, layers);
  const model = new Llama(gpu.memory, {
    config: source.config,
    numerics: EXACT,
    mode: scoreMode(SIZES),
    ...options,
  });
  await loadWeights(gpu, model, source, { seed: 3, ...how });
  return model;
}

/** A tensor's values without its padding, which must be zero. */
async function values(gpu: Gpu, { value, trained, shape, name }: Parameter, master = false) {
  const tensor = master ? trained!.master : value;
  const stored = Float32Array.from(await download(gpu, tensor));
  const cut = cutRows(stored, shape, tensor.shape);
  assertSameValues(padRows(cut, shape, tensor.shape), stored, `${name}: padding`);
  return cut;
}

async function allValues(gpu: Gpu, model: Llama): Promise<Map<string, Float32Array>> {
  const all = new Map<string, Float32Array>();
  for (const parameter of model.weights) all.set(parameter.name, await values(gpu, parameter));
  return all;
}

const toHalf = (data: Float32Array) => data.map((v) => float16ToFloat32(float32ToFloat16(v)));

/** The bf16 bits of the nearest value towards zero. */
const toBfloat16 = (data: Float32Array) =>
  Uint16Array.from(new Uint32Array(data.buffer, data.byteOffset, data.length), (v) => v >>> 16);

/** A file's bytes of these values, and the values as the file can hold them. */
function encode(data: Float32Array, dtype: FileDtype): { bytes: Uint8Array; held: Float32Array } {
  const view = (array: Uint16Array | Float32Array) => new Uint8Array(array.buffer.slice(0));
  if (dtype === "F32") return { bytes: view(data), held: data };
  if (dtype === "F16") {
    return { bytes: view(Uint16Array.from(data, float32ToFloat16)), held: toHalf(data) };
  }
  const bits = toBfloat16(data);
  const held = new Float32Array(Uint32Array.from(bits, (v) => v << 16).buffer);
  return { bytes: view(bits), held };
}

gpuTest("random weights follow from the seed alone", async (gpu) => {
  const first = await allValues(gpu, await load(gpu, "random:tiny"));
  assertSameTensors(first, await allValues(gpu, await load(gpu, "random:tiny")));
  const other = await allValues(gpu, await load(gpu, "random:tiny", {}, { seed: 4 }));
  const seen = new Set<number>();
  for (const [name, data] of first) {
    if (/norm/.test(name)) {
      assert.ok(data.every((value) => value === 1), name);
      continue;
    }
    assert.ok(data.some((value, i) => value !== other.get(name)![i]), name);
    // Neither seeds nor tensors repeat one another's numbers.
    for (const value of [data[0], other.get(name)![0]]) {
      assert.ok(!seen.has(value), name);
      seen.add(value);
    }
    const deviation = Math.sqrt(data.reduce((sum, value) => sum + value ** 2, 0) / data.length);
    const mean = data.reduce((sum, value) => sum + value, 0) / data.length;
    assert.ok(Math.abs(deviation / 0.02 - 1) < 0.05, `${name}: deviation ${deviation}`);
    assert.ok(Math.abs(mean) < 0.02 * 5 / Math.sqrt(data.length), `${name}: mean ${mean}`);
  }
});

gpuTest("random weights in f16 are those in f32, rounded; padding stays zero", async (gpu) => {
  const name = `random:${fixturePath("llama/config.json")}`;
  const exact = await allValues(gpu, await load(gpu, name));
  for (const options of HALVES.slice(1)) {
    for (const parameter of (await load(gpu, name, options)).weights) {
      const expected = exact.get(parameter.name)!;
      assertSameValues(await values(gpu, parameter), toHalf(expected), parameter.name);
      if (parameter.trained === undefined) continue;
      assertSameValues(await values(gpu, parameter, true), expected, parameter.name);
    }
  }
});

Deno.test("layers cuts a model after its first blocks", () => {
  for (const name of ["random:tiny", fixturePath("llama")]) {
    const { config, weights } = openModel(name, 1);
    assert.equal(config.num_hidden_layers, 1);
    weights?.close();
    assert.throws(() => openModel(name, 9), refusal(/layers is 9, expected .* from 1 to the [23]/));
  }
  assert.equal(openModel("random:llama2-7b").config.num_hidden_layers, 32);
});

gpuTest("a folder's first blocks are loaded as they are", async (gpu) => {
  const { weights } = readModel("llama");
  const model = await load(gpu, fixturePath("llama"), {}, { layers: 2 });
  assert.ok(model.weights.some(({ name }) => name.startsWith("model.layers.1.")));
  assert.ok(!model.weights.some(({ name }) => name.startsWith("model.layers.2.")));
  for (const [name, data] of await allValues(gpu, model)) {
    assertSameValues(data, weights.get(name)!.data, name);
  }
});

for (const dtype of ["F32", "F16", "BF16"] as const) {
  gpuTest(`${dtype} files load to the bit, in chunks of any size`, async (gpu) => {
    const folder = join(await Deno.makeTempDir(), "model");
    const { weights } = randomSubject(SMALL_CONFIG);
    const encoded = new Map(
      [...weights].map(([name, { data }]) => [name, encode(data, dtype)]),
    );
    await writeHuggingFace(
      folder,
      SMALL_CONFIG,
      [...weightShapes(SMALL_CONFIG)].map(([name, shape]) => ({
        name,
        dtype,
        shape,
        data: [encoded.get(name)!.bytes],
      })),
    );
    for (const options of HALVES) {
      for (const chunkBytes of [512, 4096, undefined]) {
        const model = await load(gpu, folder, options, { chunkBytes });
        for (const parameter of model.weights) {
          const { held } = encoded.get(parameter.name)!;
          const expected = options.numerics.storage === "f16" ? toHalf(held) : held;
          assertSameValues(await values(gpu, parameter), expected, parameter.name);
          if (parameter.trained === undefined) continue;
          assertSameValues(await values(gpu, parameter, true), held, parameter.name);
        }
      }
    }
    await Deno.remove(join(folder, ".."), { recursive: true });
  });
}

gpuTest("progress is told chunk by chunk until all bytes are there", async (gpu) => {
  const source = openModel(fixturePath("llama"));
  const { config } = source;
  const options = { config, numerics: EXACT, mode: scoreMode({ maxTokens: 1, maxTargets: 1 }) };
  const model = new Llama(gpu.memory, options);
  const told: [number, number][] = [];
  const progress = (done: number, total: number) => told.push([done, total]);
  await loadWeights(gpu, model, source, { seed: 0, chunkBytes: 4096, progress });
  const bytes = [...readModel("llama").weights.values()]
    .reduce((sum, { data }) => sum + data.byteLength, 0);
  assert.deepEqual(told.at(-1), [bytes, bytes]);
  told.forEach(([done, total], i) => {
    const before = i > 0 ? told[i - 1][0] : 0;
    assert.ok(done > before && done - before <= 4096 && total === bytes);
  });
});

/** The fixture's source, whose reads go through `read`. */
function throughReads(
  read: (original: () => Promise<void>) => Promise<void>,
): { source: ModelSource; closed: () => boolean } {
  const source = openModel(fixturePath("llama")), { weights } = source;
  let closed = false;
  const wrapped: WeightSource = {
    config: weights!.config,
    info: (name) => weights!.info(name),
    read: (name, begin, target) => read(() => weights!.read(name, begin, target)),
    quantized: (name) => weights!.quantized(name),
    close() {
      weights!.close();
      closed = true;
    },
  };
  return { source: { ...source, weights: wrapped }, closed: () => closed };
}

gpuTest("a few reads are under way at once, and may end in any order", async (gpu) => {
  let now = 0, most = 0, count = 0;
  const { source, closed } = throughReads(async (original) => {
    most = Math.max(most, ++now);
    const delay = count++ * 7 % 5;
    await original();
    for (let i = 0; i < delay; i++) await new Promise((resolve) => setTimeout(resolve, 0));
    now--;
  });
  const mode = scoreMode({ maxTokens: 1, maxTargets: 1 });
  const model = new Llama(gpu.memory, { config: source.config, numerics: EXACT, mode });
  await loadWeights(gpu, model, source, { seed: 0, chunkBytes: 512 });
  assert.ok(most > 1 && most <= 16, `${most} reads at once`);
  assert.equal(now, 0);
  assert.ok(closed());
  const { weights } = readModel("llama");
  for (const [name, data] of await allValues(gpu, model)) {
    assertSameValues(data, weights.get(name)!.data, name);
  }
});

gpuTest("a read that fails ends the loading, with nothing left under way", async (gpu) => {
  let count = 0, now = 0;
  const { source, closed } = throughReads(async (original) => {
    now++;
    const failing = ++count === 6;
    await original();
    await new Promise((resolve) => setTimeout(resolve, failing ? 0 : 5));
    now--;
    if (failing) throw new UserError("w.safetensors: became shorter while it was read");
  });
  const mode = scoreMode({ maxTokens: 1, maxTargets: 1 });
  const model = new Llama(gpu.memory, { config: source.config, numerics: EXACT, mode });
  const { workspace } = gpu.memory.live;
  await assert.rejects(
    loadWeights(gpu, model, source, { seed: 0, chunkBytes: 512 }),
    refusal(/^w\.safetensors: became shorter/),
  );
  assert.deepEqual([now, closed(), gpu.memory.live.workspace], [0, true, workspace]);
});

Deno.test("models that don't exist and missing tokenizers are explained", async () => {
  assert.throws(
    () => openModel("no/such/folder"),
    refusal(/model "no\/such\/folder" does not exist; expected builtin, random:/),
  );
  assert.throws(() => openModel("random:llama2-7"), refusal(/"llama2-7b"/));
  assert.throws(() => openModel("random:no/such.json"), refusal(/no\/such\.json/));
  await assert.rejects(
    openModelWithTokenizer({ model: "random:tiny" }),
    refusal(/model "random:tiny" brings no tokenizer\.model; give one with --tokenizer FILE/),
  );
  const tokenizer = fixturePath("tiny_tokenizer.model");
  const opened = await openModelWithTokenizer({ model: "random:tiny", tokenizer });
  assert.equal(opened.tokenizerPath, tokenizer);
});

const TARGETS = Object.keys(LINEAR_MODULES) as LinearModule[];

for (const precision of ["fp32", "mixed"] as const) {
  gpuTest(
    `fresh adapters: A random within its bound, B and padding zero (${precision})`,
    async (gpu) => {
      for (const trained of ["adapters", "nothing"] as const) {
        const lora = loraPlan(presetConfig("tiny"), { rank: 6, alpha: 12, targets: TARGETS });
        const numerics = numericsOf({ precision, exact_products: false });
        const mode = trained === "nothing"
          ? scoreMode(SIZES)
          : trainMode({ ...SIZES, trained, checkpointing: "none" });
        const model = await load(gpu, "random:tiny", { numerics, mode, lora });
        const draw = async (init: "kaiming" | "gaussian", seed: number) => {
          initializeAdapters(gpu, model, { init, seed });
          const drawn = new Map<string, Float32Array>();
          for (const parameter of model.adapters) {
            drawn.set(parameter.name, await values(gpu, parameter));
            if (parameter.trained === undefined) continue;
            const master = await values(gpu, parameter, true);
            assertSameValues(drawn.get(parameter.name)!, master, parameter.name);
          }
          return drawn;
        };
        for (const parameter of model.adapters) {
          const size = parameter.shape[0] * parameter.shape[1];
          setParameter(gpu, parameter, new Float32Array(size).fill(9));
        }
        const kaiming = await draw("kaiming", 5);
        const gaussian = await draw("gaussian", 5);
        assertSameTensors(await draw("kaiming", 5), kaiming);
        const reseeded = await draw("kaiming", 6);
        const all: number[] = [];
        for (const { name, shape } of model.adapters) {
          const [uniform, normal] = [kaiming.get(name)!, gaussian.get(name)!];
          if (name.includes("lora_B")) {
            assert.ok([...uniform, ...normal].every((value) => value === 0), name);
            continue;
          }
          const scaled = Array.from(uniform, (value) => value * Math.sqrt(shape[1]));
          assert.ok(scaled.every((value) => Math.abs(value) <= 1 + 1e-3), name);
          assert.ok(Math.max(...scaled) > 0.95 && Math.min(...scaled) < -0.95, name);
          assert.ok(uniform.some((value, i) => value !== reseeded.get(name)![i]), name);
          const squares = normal.reduce((sum, value) => sum + value ** 2, 0);
          const deviation = Math.sqrt(squares / normal.length);
          assert.ok(Math.abs(deviation * 6 - 1) < 0.15, `${name}: deviation ${deviation}`);
          all.push(uniform[0]);
        }
        assert.equal(new Set(all).size, all.length);
      }
    },
  );
}

/** A check for a UserError that says this. */
function refusal(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof UserError, String(error));
    assert.match(error.message, pattern);
    return true;
  };
}

gpuTest("a weight is set in f16 piece by piece, in the memory that uploads have", async (gpu) => {
  const shape = [1030, 2098], stored = [1032, 2100];
  const value = gpu.memory.tensor("parameter", "weight", "f16", stored);
  const halves = new Float16Array(shape[0] * shape[1]);
  for (let i = 0; i < halves.length; i++) halves[i] = Math.sin(i);
  const data = new Float32Array(halves);
  const made: number[] = [], make = gpu.memory.tensor.bind(gpu.memory);
  gpu.memory.tensor = (...of) => {
    const tensor = make(...of);
    made.push(tensor.bytes);
    return tensor;
  };
  try {
    setParameter(gpu, new Parameter("weight", shape, operandOf(value)), data);
  } finally {
    gpu.memory.tensor = make;
  }
  assert.ok(4 * data.length > 2 ** 23);
  assert.deepEqual(made, [2 ** 23]);
  const found = new Float32Array(await download(gpu, value));
  assertSameValues(cutRows(found, shape, stored), data, "weight");
  gpu.free(value);
});
