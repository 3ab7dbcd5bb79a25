/** PEFT's kinds of adapters on the golden files that PEFT 0.21 made: logits, gradients, training. */
import assert from "node:assert/strict";
import type { Gpu } from "../../kernels/gpu.ts";
import { makeBatch } from "../../model/batch.ts";
import { PREFIX } from "../../model/adapter/tensors.ts";
import { checkAdapter, readAdapter } from "../../model/files/adapter.ts";
import { Llama, type LlamaOptions } from "../../model/llama.ts";
import { cutRows, loadAdapter, loadWeights } from "../../model/load.ts";
import { openModel } from "../../model/source.ts";
import { fixturePath, type PeftCase, readFixture, readTensors } from "../fixtures.ts";
import { assertClose, gpuTest } from "../kernels/harness.ts";

const cases = readFixture("peft.json");

/** A case's model with its adapter on the GPU. */
async function load(
  gpu: Gpu,
  { name, model: base }: PeftCase,
  options: Partial<LlamaOptions> = {},
): Promise<Llama> {
  const source = openModel(fixturePath(base)), folder = fixturePath(`peft/${name}`);
  const adapter = readAdapter(folder);
  const model = new Llama(gpu.memory, {
    config: source.config,
    precision: "fp32",
    trained: "nothing",
    maxTokens: 256,
    maxTargets: 64,
    lora: checkAdapter(adapter, source.config, folder),
    ...options,
  });
  model.initialize(gpu);
  await loadWeights(gpu, model, source, { seed: 0 });
  loadAdapter(gpu, model, adapter);
  return model;
}

/** A trained parameter's name in PEFT's files. */
const storedName = (name: string) => name.startsWith(PREFIX) ? name : PREFIX + name;

for (const c of cases) {
  gpuTest(`adapters: logits equal PEFT's: ${c.name}`, async (gpu) => {
    const [{ ids }] = c.samples;
    const model = await load(gpu, c);
    const document = { ids: Uint32Array.from(ids), promptLength: ids.length, weight: 0 };
    // One row goes by products for few rows, and all rows by those for many.
    for (const rows of [...c.positions.map((position) => [position]), c.positions]) {
      const batch = { ...makeBatch([document]), targetRows: Uint32Array.from(rows) };
      const logits = model.logits(gpu, { ...batch, targetCount: rows.length });
      const values = await gpu.readF32(logits), width = logits.rowSize;
      rows.forEach((position, i) => {
        const expected = c.logits[c.positions.indexOf(position)];
        const row = values.subarray(i * width, i * width + expected.length);
        assertClose(row, expected, { atol: 1e-4, rtol: 1e-4, what: `${c.name} ${position}` });
      });
    }
  });

  gpuTest(`adapters: loss and gradients equal PEFT's: ${c.name}`, async (gpu) => {
    const expected = readTensors(`peft/${c.name}/gradients.safetensors`);
    for (const checkpointing of ["none", "block"]) {
      const model = await load(gpu, c, { trained: "adapters", checkpointing });
      const supervised = c.samples.map(({ ids, promptLength }) => ids.length - promptLength);
      const weight = 1 / supervised.reduce((a, b) => a + b);
      const batch = makeBatch(
        c.samples.map((sample) => ({ ...sample, ids: Uint32Array.from(sample.ids), weight })),
      );
      model.loss(gpu, batch, { backward: true });
      const [loss] = await gpu.readF32(model.losses);
      assertClose([loss], [c.loss], { atol: 0, rtol: 1e-5, what: `${c.name} loss` });
      const names = new Map(
        [...expected.keys()].map((name) => [name.replace(".base_layer.", "."), name]),
      );
      const trained = model.trained.map(({ name }) => storedName(name)).sort();
      assert.deepEqual(trained, [...names.keys()].sort());
      for (const { name, shape, trained } of model.trained) {
        const { grad } = trained!;
        const actual = cutRows(await gpu.readF32(grad), shape, grad.shape);
        const { data } = expected.get(names.get(storedName(name))!)!;
        const difference = Math.hypot(...actual.map((v, i) => v - data[i]));
        const norm = Math.hypot(...data);
        assert.ok(difference <= 1e-4 * norm, `${c.name} ${name}: ${difference} of ${norm}`);
      }
    }
  });
}
