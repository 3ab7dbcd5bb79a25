/** Generators of fixture models, for the tests of what they make. */
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { decoderPasses, type DecoderSizes } from "../../../model/engine/decoder.ts";
import { Generator } from "../../../model/engine/generate.ts";
import type { Llama, LlamaOptions } from "../../../model/transformer/llama.ts";
import { loadFixtureModel } from "../../fixture_model.ts";
import type { FixtureSubject } from "../../fixtures.ts";

/** Sizes that hold the fixtures' longest prompt and answer. */
export const SIZES: DecoderSizes = {
  sequences: 1,
  context: 324,
  promptTokens: 324,
  cache: "f32",
};

/** A model made for a decoder of these sizes. */
export async function loadForDecoder(
  gpu: Gpu,
  subject: FixtureSubject,
  sizes: DecoderSizes,
  options: Partial<LlamaOptions> = {},
): Promise<Llama> {
  return await loadFixtureModel(gpu, subject, { ...decoderPasses(sizes), ...options });
}

/** A generator; what `sizes` leaves out is as in {@linkcode SIZES}. */
export async function makeGenerator(
  gpu: Gpu,
  subject: FixtureSubject,
  { penalized, sizes: given = {}, ...options }: Partial<LlamaOptions> & {
    sizes?: Partial<DecoderSizes>;
    penalized?: boolean;
  } = {},
): Promise<Generator> {
  const sizes = { ...SIZES, ...given };
  sizes.promptTokens = sizes.sequences * sizes.context;
  const model = await loadForDecoder(gpu, subject, sizes, options);
  return new Generator(gpu.memory, model, sizes, { penalized });
}
