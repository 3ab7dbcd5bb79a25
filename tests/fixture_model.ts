/** The fixtures' models on the GPU, loaded from their folders as the commands do. */
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { checkAdapter, readAdapter } from "../model/adapter/adapter_folder.ts";
import { Llama, type LlamaOptions } from "../model/transformer/llama.ts";
import { EXACT } from "../kernels/ops/numerics.ts";
import { scoreMode } from "../model/transformer/modes.ts";
import { loadAdapter, loadWeights } from "../model/checkpoint/load.ts";
import { openModel } from "../model/checkpoint/source.ts";
import { fixturePath, type FixtureSubject } from "./fixtures.ts";

/** A fixture model with its adapter on the GPU: fp32 and untrained where nothing is said. */
export async function loadFixtureModel(
  gpu: Gpu,
  { model: name, adapter: adapterName }: FixtureSubject,
  options: Partial<LlamaOptions> = {},
): Promise<Llama> {
  const source = openModel(fixturePath(name));
  const adapter = adapterName === null ? undefined : readAdapter(fixturePath(adapterName));
  const model = new Llama(gpu.memory, {
    config: source.config,
    numerics: EXACT,
    mode: scoreMode({ maxTokens: 256, maxTargets: 256 }),
    lora: adapter && checkAdapter(adapter, source.config, adapterName ?? ""),
    ...options,
  });
  model.initialize(gpu);
  await loadWeights(gpu, model, source, { seed: 0 });
  if (adapter) loadAdapter(gpu, model, adapter);
  return model;
}
