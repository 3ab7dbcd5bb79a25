/**
 * Flags that the commands of inference share.
 *
 * @module
 */
import { z } from "zod";
import * as common from "../cli/common_settings.ts";
import { aboveZero, choice, flag, text, whole, worded } from "../cli/settings.ts";

/** What a command needs to know of the model. */
export const modelKeys = {
  model: common.model,
  tokenizer: common.tokenizer,
  add_bos: common.add_bos,
  adapter: text("folder", "a PEFT adapter folder").optional().describe(
    "PEFT adapter folder to add to the model.",
  ),
  layers: common.layers,
  precision: choice(["mixed", "fp32"]).default("mixed").describe(
    "mixed stores and computes in f16 and adds up in f32; fp32 throughout.",
  ),
  exact_products: common.exact_products,
  quantization: common.quantization,
  double_quantization: common.double_quantization,
  quantization_skip: common.quantization_skip,
};

/** What a command needs to know of the machine and the output. */
export const runKeys = {
  seed: whole(0, 2 ** 32 - 1).default(42).describe(
    "Decides what is drawn, and the weights of random: models.",
  ),
  gpu: common.gpu,
  json: flag().default(false).describe("Print one JSON object on stdout and nothing else there."),
  profile: flag().default(false).describe("Print the GPU's time by program on stderr (slower)."),
};

/** A probability, both ends included. */
const probability = () => worded(z.number().min(0).max(1), "number", "a number from 0 to 1");

/** How the next token is chosen. */
export const samplingKeys = {
  temperature: worded(z.number().min(0).max(1e4), "number", "a number from 0 to 10000").default(0)
    .describe(
      "Draw tokens from the model's probabilities, sharpened below 1 and flattened above; 0 takes the most likely (greedy).",
    ),
  top_k: whole(0).default(0).describe("Draw from the so many most likely tokens; 0 from all."),
  top_p: probability().default(1).describe(
    "Draw from the most likely tokens that make up this probability.",
  ),
  min_p: probability().default(0).describe(
    "Draw from tokens at least this likely, as a share of the most likely one's probability.",
  ),
  repetition_penalty: worded(aboveZero().min(0.01).max(100), "number", "a number from 0.01 to 100")
    .default(1).describe("Above 1, tokens that occurred before become less likely."),
};

/** What the model's own chat template is given beside the messages. */
export const templateKeys = {
  tools: text("file", "a JSON file with a list of tools").optional().describe(
    "Tools that the model may call: a JSON list of their schemas, for the model's own chat template.",
  ),
  template_kwargs: common.template_kwargs,
};

/** The flags that {@linkcode templateKeys} give a command. */
export type TemplateFlags = z.output<z.ZodObject<typeof templateKeys>>;

/** Words for the KV cache. */
export const cacheKeys = {
  kv_cache: flag().default(true).describe(
    "Keep the keys and values of earlier tokens; --no-kv-cache computes them anew for each token.",
  ),
  cache_dtype: choice(["auto", "f16", "f32"]).default("auto").describe(
    "Element type of the KV cache; auto is f16 with precision mixed and f32 with fp32.",
  ),
};

/** The flags that {@linkcode modelKeys} and {@linkcode runKeys} give a command. */
export type ModelFlags =
  & z.output<z.ZodObject<typeof modelKeys>>
  & Omit<z.output<z.ZodObject<typeof runKeys>>, "json">;

/** Those of the KV cache. */
export type CacheFlags = z.output<z.ZodObject<typeof cacheKeys>> & Pick<ModelFlags, "precision">;
