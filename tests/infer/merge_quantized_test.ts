/** Adapters merged into quantised models, and quantised models converted: what is written is what their codes stand for. */
import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { compareLogits } from "../../infer/merge_check.ts";
import { openFiles, writeModel } from "../../infer/write_model.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { adapterConfig } from "../../model/adapter/adapter_config.ts";
import { type Adapter, adapterShapes } from "../../model/adapter/adapter_folder.ts";
import { AdapterMerge } from "../../model/checkpoint/merge.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { weightShapes } from "../../model/families/config.ts";
import { openGgufFile } from "../../model/formats/gguf/header.ts";
import { quantizedTypes } from "../../model/formats/weights.ts";
import type { QuantizationSettings } from "../../model/transformer/quantization.ts";
import { TemporaryFolder } from "../cli/cli.ts";
import { fixturePath } from "../fixtures.ts";
import { gpuTest, randomArray } from "../kernels/harness.ts";
import { assertSameTensors, assertSameValues } from "../same.ts";

const BNB = ["nf4_double", "nf4_bf16", "nf4_cpu", "fp4", "int8"].map((name) =>
  fixturePath(`bnb/${name}`)
);
const GGUF = ["sentencepiece.gguf", "byte_level-00001-of-00003.gguf"].map((name) =>
  fixturePath(`gguf/${name}`)
);

/** An adapter of a model's q and down projections. */
function someAdapter(model: string): Adapter {
  const { config, weights } = openModel(model);
  weights?.close();
  const given = { r: 4, lora_alpha: 8, target_modules: ["q_proj", "down_proj"] };
  const tensors = new Map(
    Array.from(adapterShapes(config, given), ([name, shape], i) => {
      const data = Float32Array.from(randomArray(shape[0] * shape[1], i, 0.1));
      return [name, { shape, data }];
    }),
  );
  return { config: adapterConfig(given), tensors };
}

/** Writes a model, merged with an adapter where one is given; what was said on stderr. */
async function write(
  model: string,
  output: string,
  { gpu, adapter, dtype }: { gpu?: Gpu; adapter?: Adapter; dtype?: "f32" | "f16" | "q8_0" } = {},
): Promise<string[]> {
  const said: string[] = [], { error } = console;
  console.error = (line: string) => said.push(line);
  try {
    const flags = { model, output, dtype }, source = await openFiles(flags);
    const change = gpu && adapter && new AdapterMerge(gpu, adapter, source.config);
    assert.ok(await writeModel(source, flags, "Merging", change));
    source.weights.close();
  } finally {
    console.error = error;
  }
  return said;
}

/** All weights of a model, in f32. */
async function valuesOf(model: string): Promise<Map<string, Float32Array>> {
  const { weights, config } = openModel(model), values = new Map<string, Float32Array>();
  assert.ok(weights);
  for (const name of weightShapes(config).keys()) {
    const { dtype, bytes } = weights.info(name), read = new Uint8Array(bytes);
    await weights.read(name, 0, read);
    const words = new Uint16Array(read.buffer);
    values.set(
      name,
      dtype === "F32"
        ? new Float32Array(read.buffer)
        : dtype === "F16"
        ? Float32Array.from(new Float16Array(read.buffer))
        : new Float32Array(Uint32Array.from(words, (word) => word << 16).buffer),
    );
  }
  weights.close();
  return values;
}

Deno.test("convert: a quantised model becomes what its codes stand for, and one line says so", async () => {
  using folder = new TemporaryFolder();
  for (const [i, model] of [...BNB, ...GGUF].entries()) {
    const [exact, half] = [folder.file(`${i}`), folder.file(`${i}_half`)];
    const said = (await write(model, exact)).find((line) => line.includes("quantised weights"));
    const { weights } = openModel(model);
    const counts = quantizedTypes(weights!).map(([type, count]) => `${count} in ${type}`);
    weights!.close();
    assert.equal(
      said,
      `Model "${model}" has quantised weights (${
        counts.join(", ")
      }); what they stand for is written in f32 ` +
        "(--dtype f16 or bf16 would halve that).",
    );
    const before = await valuesOf(model);
    assertSameTensors(await valuesOf(exact), before);
    const config = JSON.parse(Deno.readTextFileSync(join(exact, "config.json")));
    assert.equal(config.quantization_config, undefined);
    assert.equal(config.dtype ?? config.torch_dtype, "float32");

    const line = (await write(model, half, { dtype: "f16" })).find((line) =>
      line.includes("quantised weights")
    );
    assert.match(line ?? "", /; what they stand for is written in f16\.$/);
    for (const [name, values] of await valuesOf(half)) {
      const rounded = before.get(name)?.map(Math.f16round) ?? assert.fail(name);
      assertSameValues(values, rounded, name);
    }
  }
});

Deno.test("convert: a quantised folder's other files go along, and it is quantised no more", async () => {
  using folder = new TemporaryFolder();
  const model = folder.file("model"), output = folder.file("output");
  Deno.mkdirSync(model);
  for (const file of ["config.json", "model.safetensors"]) {
    Deno.copyFileSync(join(BNB[2], file), join(model, file));
  }
  const generation = '{"eos_token_id": [2, 5], "temperature": 0.6}';
  Deno.writeTextFileSync(join(model, "generation_config.json"), generation);
  Deno.writeTextFileSync(join(model, "README.md"), "notes");
  await write(model, output, { dtype: "f16" });
  const read = (file: string) => Deno.readTextFileSync(join(output, file));
  assert.deepEqual([read("generation_config.json"), read("README.md")], [generation, "notes"]);
  const { quantization_config: _, dtype, ...before } = JSON.parse(
    Deno.readTextFileSync(join(model, "config.json")),
  );
  assert.deepEqual(JSON.parse(read("config.json")), { ...before, dtype: "float16" });
  assert.notEqual(dtype, "float16");
  // What is not quantised is not said to be.
  const again = await write(output, folder.file("again"));
  assert.deepEqual(again.filter((line) => line.includes("quantised")), []);
});

gpuTest("merge: into a quantised model is into the values of its codes", async (gpu) => {
  using folder = new TemporaryFolder();
  for (const [i, model] of [...BNB, ...GGUF].entries()) {
    const adapter = someAdapter(model);
    const [dense, merged, expected] = ["dense", "merged", "expected"].map((name) =>
      folder.file(`${name}${i}`)
    );
    await write(model, dense);
    await write(dense, expected, { gpu, adapter });
    const said = await write(model, merged, { gpu, adapter });
    assert.ok(said.some((line) => line.includes("quantised weights")));
    assertSameTensors(await valuesOf(merged), await valuesOf(expected));
    const { weights } = openModel(merged);
    assert.deepEqual(quantizedTypes(weights!), []);
    weights!.close();
    const right = await compareLogits({ model, output: merged, gpu: "auto" }, adapter);
    assert.equal(right?.precision, "fp32");
    assert.ok(right.largest < 1e-4 * right.largestLogit, `${model}: ${right.largest}`);
    if (model !== BNB[0]) continue;
    const without = await compareLogits({ model, output: dense, gpu: "auto" }, adapter);
    assert.ok(without!.largest > 0.01 * right.largestLogit, `${model}: ${without!.largest}`);
  }
});

gpuTest(
  "merge: a GGUF model becomes a GGUF file, and what it is quantised to then",
  async (gpu) => {
    using folder = new TemporaryFolder();
    for (const [i, model] of GGUF.entries()) {
      const adapter = someAdapter(model);
      const [exact, folderOf, blocks] = [`${i}.gguf`, `${i}`, `${i}_blocks.gguf`].map((name) =>
        folder.file(name)
      );
      await write(model, exact, { gpu, adapter });
      await write(model, folderOf, { gpu, adapter });
      const { file, metadata } = openGgufFile(exact);
      assert.equal(metadata.text("general.name"), basename(model, ".gguf"));
      file.close();
      const values = await valuesOf(exact);
      assertSameTensors(values, await valuesOf(folderOf));
      const said = await write(model, blocks, { gpu, adapter, dtype: "q8_0" });
      assert.ok(said.some((line) => line.endsWith("what they stand for is written in q8_0.")));
      let largest = 0;
      for (const [name, rounded] of await valuesOf(blocks)) {
        const before = values.get(name)!;
        const most = before.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        rounded.forEach((value, j) => {
          largest = Math.max(largest, Math.abs(value - before[j]) / most);
        });
      }
      // Half a step of 127 to the block's largest, and what rounding the scale to f16 adds.
      assert.ok(largest > 0 && largest < 0.6 / 127, `${model}: ${largest}`);
    }
  },
);

gpuTest("merge: beside the quantised model that an adapter was trained beside", async (gpu) => {
  using folder = new TemporaryFolder();
  const [model, output] = [folder.file("model"), folder.file("merged")];
  // Values of nf4 codes, but for v_proj, which nf4 without double quantisation holds as they are.
  await write(fixturePath("bnb/nf4_bf16"), model);
  const adapter = someAdapter(model);
  await write(model, output, { gpu, adapter });
  const compared = async (settings: Partial<QuantizationSettings>) => {
    const quantization = {
      quantization: "nf4",
      double_quantization: false,
      quantization_skip: ["v_proj"],
      ...settings,
    } as const;
    const difference = await compareLogits({ model, output, gpu: "auto" }, adapter, quantization);
    assert.ok(difference?.trained && difference.largest < 1e-5 * difference.largestLogit);
    const { trained: { largest, sameToken }, largestLogit, rows } = difference;
    return { relative: largest / largestLogit, sameToken, rows };
  };
  const same = await compared({});
  assert.ok(same.relative < 1e-5, `${same.relative}`);
  assert.equal(same.sameToken, same.rows);
  const nested = await compared({ double_quantization: true });
  const more = await compared({ quantization_skip: [] });
  for (const other of [nested, more]) assert.ok(other.relative > 1e-3, `${other.relative}`);
  assert.ok(more.sameToken < more.rows, `${more.sameToken}`);
});
