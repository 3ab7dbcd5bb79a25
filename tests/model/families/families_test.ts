/** Tiny models of every family with uncommon options: what transformers and PEFT compute of them in float32. */
import { join } from "node:path";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { numericsOf } from "../../../model/transformer/modes.ts";
import { TemporaryFolder } from "../../cli/cli.ts";
import { type FamilyCase, readFixture } from "../../fixtures.ts";
import { withHardwarePrograms } from "../../kernels/hardware_programs.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { assertGreedy, assertLogits, assertMerged, assertTraining } from "./beside_transformers.ts";
import { writeDrawnModel } from "./drawn_model.ts";

const { cases, adapter: lora, ...schedule } = readFixture("families.json");
const MIXED = numericsOf({ precision: "mixed", exact_products: false });

/** Logits by row of the prompt. */
function rowsOf(logits: Record<string, number[]>): Map<number, number[]> {
  return new Map(Object.entries(logits).map(([row, values]) => [Number(row), values]));
}

/** Whether it is the first of its family. */
function isFirst({ name, config }: FamilyCase): boolean {
  return cases.find(({ config: { model_type } }) => model_type === config.model_type)?.name ===
    name;
}

for (const c of cases) {
  gpuTest(`families: logits and greedy tokens are transformers', ${c.name}`, async (gpu) => {
    using files = new TemporaryFolder();
    const folder = await writeDrawnModel(files.file("model"), c, lora);
    const text = { ids: c.prompt, rows: rowsOf(c.logits) };
    await assertLogits(gpu, folder, text, { numerics: EXACT, tolerance: 1e-4 });
    await assertLogits(gpu, folder, text, { numerics: MIXED, tolerance: 1e-2 });
    await assertGreedy(gpu, folder, c);
    if (!isFirst(c)) return;
    // With the programs of one row, once for each family.
    await withHardwarePrograms(gpu, (gpu) => assertGreedy(gpu, folder, c));
  });

  gpuTest(`families: three steps of training are those of transformers, ${c.name}`, async (gpu) => {
    using files = new TemporaryFolder();
    const folder = await writeDrawnModel(files.file("model"), c, lora);
    const adapter = join(folder, "adapter");
    await assertTraining(gpu, folder, { ...schedule, ids: c.samples, steps: c.lora }, { adapter });
    await assertTraining(gpu, folder, { ...schedule, ids: c.samples, steps: c.full }, {});
  });

  gpuTest(`families: a merged model is PEFT's with its adapter, ${c.name}`, async (gpu) => {
    using files = new TemporaryFolder();
    const folder = await writeDrawnModel(files.file("model"), c, lora);
    const text = { ids: c.prompt, rows: rowsOf(c.adapted_logits) };
    await assertMerged(gpu, folder, join(folder, "adapter"), text);
  });
}
