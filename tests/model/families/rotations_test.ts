/**
 * Models whose heads are rotated in other ways than a Llama's, and whose linear layers are fused, beside transformers and
 * PEFT: fixtures by make_rotations.py.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { readAdapter } from "../../../model/adapter/adapter_folder.ts";
import { cutRows } from "../../../model/checkpoint/load.ts";
import { AdapterMerge } from "../../../model/checkpoint/merge.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { configJson, parseConfig } from "../../../model/families/config.ts";
import { openHuggingFace } from "../../../model/formats/huggingface.ts";
import { rewrittenTensors } from "../../../model/formats/rewrite.ts";
import { openSafetensors } from "../../../model/formats/safetensors.ts";
import { writeHuggingFace } from "../../../model/formats/write_huggingface.ts";
import { numericsOf } from "../../../model/transformer/modes.ts";
import { fixturePath, readTensors } from "../../fixtures.ts";
import { assertClose, gpuTest } from "../../kernels/harness.ts";
import {
  assertGreedy,
  assertLogits,
  assertTraining,
  type TrainingCase,
} from "./beside_transformers.ts";

const MIXED = numericsOf({ precision: "mixed", exact_products: false });

/** `expected.json` of a model. */
interface Expected {
  texts: { ids: number[]; logits: number[][]; adapted: number[][] }[];
  greedy: { prompt: number[]; greedy: number[] }[];
  samples: number[][];
  learning_rate: number;
  gradient_accumulation_steps: number;
  lora: TrainingCase["steps"];
  full: TrainingCase["steps"];
}

const FOLDER = fixturePath("rotations");
for (const { name } of [...Deno.readDirSync(FOLDER)].sort((a, b) => a.name < b.name ? -1 : 1)) {
  const folder = join(FOLDER, name), adapterFolder = join(folder, "adapter");
  const expected: Expected = JSON.parse(Deno.readTextFileSync(join(folder, "expected.json")));

  gpuTest(`rotations, ${name}: logits and greedy tokens are transformers'`, async (gpu) => {
    for (const { ids, logits } of expected.texts) {
      const rows = new Map(logits.entries());
      await assertLogits(gpu, folder, { ids, rows }, { numerics: EXACT, tolerance: 1e-4 });
      await assertLogits(gpu, folder, { ids, rows }, { numerics: MIXED, tolerance: 1e-2 });
    }
    for (const { prompt, greedy } of expected.greedy) {
      await assertGreedy(gpu, folder, { prompt, greedy });
    }
  });

  gpuTest(
    `rotations, ${name}: steps of training are those of PEFT and transformers`,
    async (gpu) => {
      const training = { ...expected, ids: expected.samples };
      const trained = await assertTraining(gpu, folder, { ...training, steps: expected.lora }, {
        adapter: adapterFolder,
      });
      const saved = readTensors(`rotations/${name}/trained/adapter_model.safetensors`);
      assert.deepEqual(trained.adapters.map((p) => p.name).sort(), [...saved.keys()].sort());
      for (const { name, shape, value } of trained.adapters) {
        const actual = cutRows(await gpu.readF32(value), shape, value.shape);
        const { shape: theirs, data } = saved.get(name)!;
        assert.deepEqual([...shape], theirs, name);
        assertClose(actual, data, { atol: 1e-3, rtol: 1e-3, what: name });
      }
      const settings = { adapter: adapterFolder, precision: "mixed" } as const;
      const tolerance = { loss: 1e-2, norm: 1e-2 };
      await assertTraining(gpu, folder, { ...training, steps: expected.lora }, {
        ...settings,
        tolerance,
      });
      await assertTraining(gpu, folder, { ...training, steps: expected.full }, {});
    },
  );

  gpuTest(
    `rotations, ${name}: a merged adapter says what it says beside the model`,
    async (gpu) => {
      const { config, weights } = openModel(folder), adapter = readAdapter(adapterFolder);
      const merged = join(Deno.makeTempDirSync(), "merged");
      try {
        const change = new AdapterMerge(gpu, adapter, config);
        await writeHuggingFace(merged, config, rewrittenTensors(weights!, { change }), {
          base: folder,
        });
        const [own, theirs] = [merged, folder].map((path) => {
          const source = openHuggingFace(path);
          source.close();
          return source.config;
        });
        assert.deepEqual(own, theirs);
        const [names, before] = [merged, folder].map((path) => {
          const file = openSafetensors(join(path, "model.safetensors"));
          file.close();
          return [...file.tensors.keys()].sort();
        });
        assert.deepEqual(names, before);
        for (const { ids, adapted: [last] } of expected.texts) {
          const rows = new Map([[ids.length - 1, last]]);
          await assertLogits(gpu, merged, { ids, rows }, { numerics: EXACT, tolerance: 1e-4 });
        }
      } finally {
        weights?.close();
      }
    },
  );

  Deno.test(`rotations, ${name}: what is written of its configuration is read as the same`, () => {
    const { config, weights } = openModel(folder);
    weights?.close();
    assert.deepEqual(parseConfig(JSON.parse(JSON.stringify(configJson(config))), name), config);
  });
}
