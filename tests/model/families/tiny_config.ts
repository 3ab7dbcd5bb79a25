/** The tiny model's config.json with changes, for the tests of what such a file means. */
import { configJson, type ModelConfig, parseConfig } from "../../../model/families/config.ts";
import { presetConfig } from "../../../model/families/presets.ts";

/** The tiny model's file with some fields changed; `undefined` removes one. */
function tinyJson(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return JSON.parse(JSON.stringify({ ...configJson(presetConfig("tiny")), ...changes }));
}

/** What the tiny model's file means with these changes. */
export const parse = (changes: Record<string, unknown>): ModelConfig =>
  parseConfig(tinyJson(changes), "c.json");

/** The scaling of RoPE in Llama 3.1's files. */
export const LLAMA_3_SCALING = {
  type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
} as const;

const MISTRAL = { ...configJson(presetConfig("tiny")), model_type: "mistral" };
/** What the tiny model's file means as a Mistral, with these changes. */
export const mistral = (changes: Record<string, unknown>): ModelConfig => {
  const architectures = ["MistralForCausalLM"];
  return parseConfig(
    JSON.parse(JSON.stringify({ ...MISTRAL, architectures, ...changes })),
    "c.json",
  );
};
