/**
 * The files of the first conversions of LLaMA, made before `transformers` 4.28 had the family under its present
 * names. Their best known copy is decapoda-research/llama-7b-hf, whose models are still about.
 *
 * @module
 */

import { isObject } from "../files/json_file.ts";

/** The class's name before the release. */
const OLD_CLASS = "LLaMAForCausalLM";
/** Token ids that those conversions wrote: the tokenizer beside them has BOS 1 and EOS 2, and no padding. */
const WRONG_IDS: Record<string, { wrong: number; right: number | null }> = {
  bos_token_id: { wrong: 0, right: 1 },
  eos_token_id: { wrong: 1, right: 2 },
  pad_token_id: { wrong: -1, right: null },
};

/** Whether a `config.json` is of those. */
function isFirstConversion({ architectures }: Record<string, unknown>): boolean {
  return Array.isArray(architectures) && architectures.includes(OLD_CLASS);
}

/** The same object with the ids put right. */
function rightIds(json: Record<string, unknown>): Record<string, unknown> {
  const right = { ...json };
  for (const [field, ids] of Object.entries(WRONG_IDS)) {
    if (right[field] === ids.wrong) right[field] = ids.right;
  }
  return right;
}

/**
 * A `generation_config.json` with the ids of the tokenizer, where it lies beside a `config.json` of the first
 * conversions; any other as it is.
 */
export function modernGeneration(
  generation: Record<string, unknown>,
  config: unknown,
): Record<string, unknown> {
  return isObject(config) && isFirstConversion(config) ? rightIds(generation) : generation;
}

/** Whether a named token is said to be no text at all. */
function isEmptyToken(value: unknown): boolean {
  return value === "" || isObject(value) && value.content === "";
}

/**
 * A `tokenizer_config.json` of the first conversions as releases since would write it: they called the class
 * `LLaMATokenizer`, which put BOS before a text, and left the names of its tokens, "", to tokenizer.model. Any other
 * file stays as it is.
 */
export function modernTokenizerConfig(json: Record<string, unknown>): Record<string, unknown> {
  if (json.tokenizer_class !== "LLaMATokenizer") return json;
  const named = Object.entries(json).filter(([name, value]) =>
    !(name.endsWith("_token") && isEmptyToken(value))
  );
  return {
    add_bos_token: true,
    legacy: true,
    ...Object.fromEntries(named),
    tokenizer_class: "LlamaTokenizer",
  };
}

/**
 * A `config.json` in the names of today: `max_sequence_length` is `max_position_embeddings`, the class is
 * `LlamaForCausalLM`, and token ids that no tokenizer of LLaMA has are its own. Any other file stays as it is.
 */
export function modernConfig(json: Record<string, unknown>): Record<string, unknown> {
  if (!isFirstConversion(json)) return json;
  const { max_sequence_length, ...modern } = rightIds(json);
  modern.architectures = ["LlamaForCausalLM"];
  modern.model_type ??= "llama";
  if (max_sequence_length !== undefined) modern.max_position_embeddings ??= max_sequence_length;
  return modern;
}
