/**
 * `config.json` of the first conversions of LLaMA, made before `transformers` 4.28 had the family under its present
 * names. Their best known copy is decapoda-research/llama-7b-hf, whose models are still about.
 *
 * @module
 */

/** The class's name before the release. */
const OLD_CLASS = "LLaMAForCausalLM";
/** Token ids that those conversions wrote: the tokenizer beside them has BOS 1 and EOS 2, and no padding. */
const WRONG_IDS: Record<string, { wrong: number; right: number | null }> = {
  bos_token_id: { wrong: 0, right: 1 },
  eos_token_id: { wrong: 1, right: 2 },
  pad_token_id: { wrong: -1, right: null },
};

/**
 * A `config.json` in the names of today: `max_sequence_length` is `max_position_embeddings`, the class is
 * `LlamaForCausalLM`, and token ids that no tokenizer of LLaMA has are its own. Any other file stays as it is.
 */
export function modernConfig(json: Record<string, unknown>): Record<string, unknown> {
  const { architectures } = json;
  if (!Array.isArray(architectures) || !architectures.includes(OLD_CLASS)) return json;
  const { max_sequence_length, ...modern } = json;
  modern.architectures = ["LlamaForCausalLM"];
  modern.model_type ??= "llama";
  if (max_sequence_length !== undefined) modern.max_position_embeddings ??= max_sequence_length;
  for (const [field, { wrong, right }] of Object.entries(WRONG_IDS)) {
    if (modern[field] === wrong) modern[field] = right;
  }
  return modern;
}
