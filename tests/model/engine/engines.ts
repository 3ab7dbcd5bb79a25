/** Engines of fixture models, for the tests of what they make. */
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { Engine, type EngineOptions } from "../../../model/engine/engine.ts";
import type { EngineSizes } from "../../../model/engine/slots.ts";
import type { Llama, LlamaOptions } from "../../../model/transformer/llama.ts";
import { generateMode, type PassSizes } from "../../../model/transformer/modes.ts";
import { loadFixtureModel } from "../../fixture_model.ts";
import type { FixtureSubject } from "../../fixtures.ts";

/** Sizes that hold the fixtures' longest prompt and answer. */
export const SIZES: EngineSizes = {
  sequences: 1,
  context: 324,
  promptTokens: 324,
  cache: "f32",
};

/** A model made for an engine; for one of {@linkcode SIZES} where no mode is said. */
export async function loadForEngine(
  gpu: Gpu,
  subject: FixtureSubject,
  options: Partial<LlamaOptions> = {},
): Promise<Llama> {
  return await loadFixtureModel(gpu, subject, { mode: generateMode(SIZES), ...options });
}

/** An engine; what `sizes` and `passes` leave out is as in {@linkcode SIZES}, and as it follows from the sizes. */
export async function makeEngine(
  gpu: Gpu,
  subject: FixtureSubject,
  { room, sizes: given = {}, passes, ...options }: Partial<Omit<LlamaOptions, "mode">> & {
    sizes?: Partial<EngineSizes>;
    passes?: Partial<PassSizes>;
    room?: EngineOptions;
  } = {},
): Promise<Engine> {
  const merged = { ...SIZES, ...given };
  const sizes = { ...merged, promptTokens: merged.sequences * merged.context };
  const mode = { ...generateMode(sizes), ...passes };
  const model = await loadForEngine(gpu, subject, { mode, ...options });
  return new Engine(gpu.memory, model, sizes, room);
}
