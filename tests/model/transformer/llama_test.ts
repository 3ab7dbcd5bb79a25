/** The whole model on the GPU against PyTorch float32. */
import { trainMode } from "../../../model/transformer/modes.ts";
import assert from "node:assert/strict";
import { megabytes } from "../../../kernels/gpu/memory.ts";
import { type Batch, makeBatch } from "../../../model/transformer/batch.ts";
import { cutRows } from "../../../model/checkpoint/load.ts";
import { loadFixtureModel } from "../../fixture_model.ts";
import { readFixture, readTensors } from "../../fixtures.ts";
import { assertClose, gpuTest } from "../../kernels/harness.ts";
import { targetsAfter } from "../../../model/text/targets.ts";

gpuTest("logits equal PyTorch's, base, adapters, tied and untied", async (gpu) => {
  for (const c of readFixture("logits.json")) {
    const model = await loadFixtureModel(gpu, c);
    const batch: Batch = {
      ...makeBatch([{ ids: Uint32Array.from(c.ids), targets: [], weight: 0 }]),
      targetRows: Uint32Array.from(c.positions),
      targetCount: c.positions.length,
    };
    const logits = await gpu.readF32(model.logits(gpu, batch));
    const width = logits.length / 256;
    c.logits.forEach((expected, i) => {
      const row = logits.subarray(i * width, i * width + expected.length);
      assertClose(row, expected, {
        atol: 1e-4,
        rtol: 1e-4,
        what: `${c.model} ${c.adapter} row ${i}`,
      });
    });
    assert.ok(megabytes(gpu.memory.peakTotal) > 0);
  }
});

gpuTest("per-tensor gradients equal PyTorch's, full and LoRA, sample and token", async (gpu) => {
  const samples = readFixture("samples.json");
  for (const c of readFixture("gradients.json")) {
    const model = await loadFixtureModel(gpu, c, {
      mode: trainMode({
        maxTokens: 256,
        maxTargets: 256,
        trained: c.train === "full" ? "weights" : "adapters",
        checkpointing: "none",
      }),
    });
    const window = c.samples.map((i) => samples[i]);
    const counts = window.map((s) => s.ids.length - s.promptLength);
    const total = counts.reduce((a, b) => a + b, 0);
    const batch = makeBatch(window.map((s, i) => ({
      ids: Uint32Array.from(s.ids),
      targets: targetsAfter(s.promptLength, s.ids),
      weight: c.loss_normalization === "token" ? 1 / total : 1 / (counts[i] * window.length),
    })));
    model.loss(gpu, batch, { backward: true });
    const [loss] = await gpu.readF32(model.losses);
    assertClose([loss], [c.loss], { atol: 0, rtol: 1e-5, what: `${c.name} loss` });
    const expected = readTensors(c.file);
    assert.deepEqual(model.trained.map((p) => p.name).sort(), [...expected.keys()].sort());
    for (const { name, shape, trained } of model.trained) {
      const { grad } = trained!;
      const actual = cutRows(await gpu.readF32(grad), shape, grad.shape);
      const { data } = expected.get(name)!;
      const norm = Math.hypot(...data);
      const difference = Math.hypot(...actual.map((v, i) => v - data[i]));
      assert.ok(difference <= 1e-4 * norm, `${c.name} ${name}: ${difference} of ${norm}`);
    }
  }
});
