/**
 * `generation_config.json` of a folder that is written: where `transformers` would stop elsewhere than Lorikeet did,
 * it says the end tokens.
 *
 * @module
 */

/** Settings of generation that `transformers` takes from a `config.json` where there is no other file. */
const IN_CONFIG = [
  "bos_token_id",
  "pad_token_id",
  "do_sample",
  "temperature",
  "top_k",
  "top_p",
  "min_p",
  "typical_p",
  "repetition_penalty",
  "length_penalty",
  "no_repeat_ngram_size",
  "num_beams",
  "max_length",
  "max_new_tokens",
  "min_length",
  "bad_words_ids",
  "suppress_tokens",
  "begin_suppress_tokens",
];

/** The end tokens that a field names: one, several or none. */
function idsOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : value === null || value === undefined ? [] : [value];
}

/**
 * What `generation_config.json` has to say so that `transformers`' generate ends a text where Lorikeet does. It reads
 * end tokens from that file alone, or where there is none from `config.json`, and never from the tokenizer.
 *
 * @param files The model's own, as they are to be written; `generation` undefined where there is none.
 * @param endTokens Where a text ends here; nowhere by itself where there are none.
 * @returns Undefined where the files say the same already.
 */
export function generationConfig(
  { config, generation }: {
    config: Record<string, unknown>;
    generation: Record<string, unknown> | undefined;
  },
  endTokens: readonly number[],
): Record<string, unknown> | undefined {
  const theirs = new Set(idsOf((generation ?? config).eos_token_id));
  const same = theirs.size === endTokens.length && endTokens.every((id) => theirs.has(id));
  if (same) return undefined;
  const eos_token_id = endTokens.length > 1 ? endTokens : endTokens[0] ?? null;
  if (generation !== undefined) {
    // A file that says so is made anew from config.json by some releases, which would undo the change.
    const { _from_model_config: _, ...kept } = generation;
    return { ...kept, eos_token_id };
  }
  const kept = IN_CONFIG.filter((key) => config[key] !== undefined && config[key] !== null);
  return { ...Object.fromEntries(kept.map((key) => [key, config[key]])), eos_token_id };
}
