/**
 * Names of the files that a tokenizer and its chat templates consist of, in any of their forms.
 *
 * @module
 */

import { join } from "node:path";
import { exists, namesIn } from "../files/whole_file.ts";

/** What holds a vocabulary. */
export const VOCABULARY_FILES: readonly string[] = ["tokenizer.model", "tokenizer.json"];

/** What says how a vocabulary is to be read, beside the file that holds it. */
export const TOKENIZER_SETTINGS: readonly string[] = [
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
];

/** Chat templates in files of their own. */
export const CHAT_TEMPLATES: readonly string[] = ["chat_template.jinja", "chat_template.json"];

/** The folder of further chat templates. */
const MORE_TEMPLATES = "additional_chat_templates";

/** Every name in a model's folder that belongs to its tokenizer. */
export const TOKENIZER_FILES: readonly string[] = [
  ...VOCABULARY_FILES,
  ...TOKENIZER_SETTINGS,
  ...CHAT_TEMPLATES,
  MORE_TEMPLATES,
  "vocab.json",
  "merges.txt",
  "tekken.json",
];

/**
 * The further chat templates of a tokenizer's folder, as paths below it, sorted.
 *
 * @throws UserError where their folder can't be read.
 */
export function moreTemplates(folder: string): string[] {
  const inside = join(folder, MORE_TEMPLATES);
  if (!exists(inside) || !Deno.statSync(inside).isDirectory) return [];
  return namesIn(inside).filter((name) => name.endsWith(".jinja"))
    .map((name) => `${MORE_TEMPLATES}/${name}`);
}
