/**
 * The tokens that end an answer.
 *
 * @module
 */
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import type { ModelConfig } from "../../families/config.ts";
import { modernGeneration } from "../../families/first_conversions.ts";
import { brief, readJson, readJsonObject } from "../../files/json_file.ts";
import { exists } from "../../files/whole_file.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** `eos_token_id` of `generation_config.json`, one or several. */
function generationEos(folder: string): number[] {
  const file = join(folder, "generation_config.json");
  const json = exists(file) ? readJsonObject(file) : {};
  const config = join(folder, "config.json");
  const modern = exists(file) && exists(config) ? modernGeneration(json, readJson(config)) : json;
  const value = modern.eos_token_id ?? [];
  const ids = Array.isArray(value) ? value : value === -1 ? [] : [value];
  if (ids.every((id) => Number.isSafeInteger(id) && id >= 0)) return ids;
  throw new UserError(
    `${file}: eos_token_id is ${brief(value)}, expected a token id or a list of them`,
  );
}

/**
 * Every token that ends an answer: the tokenizer's EOS, and those that `config.json` and
 * `generation_config.json` name (Llama 3 has three). Ids that the model has no row for, which it can't answer, are
 * none.
 *
 * @param folder The model's, where it has one.
 * @throws UserError where generation_config.json is wrong.
 */
export function stopTokens(config: ModelConfig, tokenizer: Tokenizer, folder?: string): number[] {
  const more = folder === undefined ? [] : generationEos(folder);
  const ids = new Set([tokenizer.eos_id, ...config.eos_token_ids, ...more]);
  return [...ids].filter((id) => id < config.vocab_size);
}
