/** Engines of fixture models, for the tests of what they make. */
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { Engine } from "../../../model/engine/engine.ts";
import { decoderPasses, type EngineSizes } from "../../../model/engine/slots.ts";
import type { Llama, LlamaOptions } from "../../../model/transformer/llama.ts";
import { loadFixtureModel } from "../../fixture_model.ts";
import type { FixtureSubject } from "../../fixtures.ts";

/** Sizes that hold the fixtures' longest prompt and answer. */
export const SIZES: EngineSizes = {
  sequences: 1,
  context: 324,
  promptTokens: 324,
  cache: "f32",
};

/** A model made for an engine of these sizes. */
export async function loadForEngine(
  gpu: Gpu,
  subject: FixtureSubject,
  sizes: EngineSizes,
  options: Partial<LlamaOptions> = {},
): Promise<Llama> {
  return await loadFixtureModel(gpu, subject, { ...decoderPasses(sizes), ...options });
}

/** An engine; what `sizes` leaves out is as in {@linkcode SIZES}. */
export async function makeEngine(
  gpu: Gpu,
  subject: FixtureSubject,
  { penalized, sizes: given = {}, ...options }: Partial<LlamaOptions> & {
    sizes?: Partial<EngineSizes>;
    penalized?: boolean;
  } = {},
): Promise<Engine> {
  const sizes = { ...SIZES, ...given };
  sizes.promptTokens = sizes.sequences * sizes.context;
  const model = await loadForEngine(gpu, subject, sizes, options);
  return new Engine(gpu.memory, model, sizes, { penalized });
}
