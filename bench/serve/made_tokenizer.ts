/**
 * A tokenizer for models of random weights, which bring none: a server needs one to turn tokens into text.
 *
 * @module
 */
import { join } from "node:path";

const SPECIAL = ["<unk>", "<s>", "</s>"];

/**
 * Writes one.
 *
 * @param vocab Tokens that it has: three special ones, and words that end with their numbers.
 * @returns the folder.
 */
export function writeMadeTokenizer(folder: string, vocab: number): string {
  const words = Array.from({ length: vocab }, (_, id) => SPECIAL[id] ?? `Ġword${id}`);
  const added = SPECIAL.map((content, id) => ({
    id,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  }));
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true };
  const tokenizer = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { ...byteLevel, use_regex: true },
    post_processor: null,
    decoder: { ...byteLevel, use_regex: true },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      vocab: Object.fromEntries(words.map((word, id) => [word, id])),
      merges: [],
    },
  };
  const file = join(folder, "tokenizer.json");
  Deno.writeTextFileSync(file, JSON.stringify(tokenizer));
  Deno.writeTextFileSync(
    join(folder, "tokenizer_config.json"),
    JSON.stringify({ bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>" }),
  );
  return folder;
}
