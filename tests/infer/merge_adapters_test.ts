/** Every kind of adapter merged: the folder's logits are those that PEFT has for model and adapter. */
import assert from "node:assert/strict";
import { AdapterMerge } from "../../model/checkpoint/merge.ts";
import { writeModel } from "../../infer/write_model.ts";
import { makeBatch } from "../../model/transformer/batch.ts";
import { readAdapter } from "../../model/adapter/adapter_folder.ts";
import { EXACT } from "../../kernels/ops/numerics.ts";
import { scoreMode } from "../../model/transformer/modes.ts";
import { Llama } from "../../model/transformer/llama.ts";
import { loadWeights } from "../../model/checkpoint/load.ts";
import { type ModelSource, openModel } from "../../model/checkpoint/source.ts";
import { fixturePath, readFixture } from "../fixtures.ts";
import { assertClose, gpuTest } from "../kernels/harness.ts";
import { TemporaryFolder } from "../cli/cli.ts";

for (const c of readFixture("peft.json")) {
  gpuTest(`merge: logits of the merged model are PEFT's of the adapter: ${c.name}`, async (gpu) => {
    using folder = new TemporaryFolder();
    const model = fixturePath(c.model), path = fixturePath(`peft/${c.name}`);
    const output = folder.file("merged");
    const source = openModel(model) as
      & ModelSource
      & Required<Pick<ModelSource, "weights" | "folder">>;
    const change = new AdapterMerge(gpu, readAdapter(path), source.config, path);
    assert.ok(await writeModel(source, { model, output }, "Merging", change));
    const merged = openModel(output);
    const llama = new Llama(gpu.memory, {
      config: merged.config,
      numerics: EXACT,
      mode: scoreMode({ maxTokens: 64, maxTargets: 64 }),
    });
    llama.initialize(gpu);
    await loadWeights(gpu, llama, merged, { seed: 0 });
    const [{ ids }] = c.samples;
    const batch = makeBatch([{ ids: Uint32Array.from(ids), targets: [], weight: 0 }]);
    const targetRows = Uint32Array.from(c.positions);
    const logits = llama.logits(gpu, { ...batch, targetRows, targetCount: targetRows.length });
    const values = await gpu.readF32(logits), width = logits.rowSize;
    c.logits.forEach((expected, i) => {
      const row = values.subarray(i * width, i * width + expected.length);
      assertClose(row, expected, { atol: 1e-4, rtol: 1e-4, what: `${c.name} ${c.positions[i]}` });
    });
  });
}
