/**
 * The files of a tokenizer, as a new model folder is to hold them.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { exists, fileError } from "../files/weights.ts";

/** A file to write: a copy of another, or a text of its own. */
export interface TokenizerFile {
  /** Its path below the new folder, with `/`. */
  name: string;
  content: { copyOf: string } | { text: string };
}

/** What a tokenizer is read from. */
const VOCABULARIES = ["tokenizer.json", "tokenizer.model"];

/** What goes with it. */
const SETTINGS = [
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
];

/** Chat templates beside the first. */
const TEMPLATES = "additional_chat_templates";

/** Copies of those files that a folder has. */
function copies(folder: string, names: readonly string[]): TokenizerFile[] {
  return names.filter((name) => exists(join(folder, name)))
    .map((name) => ({ name, content: { copyOf: join(folder, name) } }));
}

/** The names of the chat templates in their own folder, as paths below the tokenizer's folder. */
function templates(folder: string): string[] {
  const path = join(folder, TEMPLATES);
  if (!exists(path)) return [];
  return [...Deno.readDirSync(path)].map(({ name }) => `${TEMPLATES}/${name}`)
    .filter((name) => name.endsWith(".jinja")).sort();
}

/**
 * The files that make a folder's tokenizer the one at `path`, for Lorikeet and for `transformers`.
 *
 * @param path What the tokenizer was read from: a folder, or a file of one.
 * @throws {UserError} where it is missing or can't be read.
 */
// deno-lint-ignore require-await
export async function tokenizerFiles(path: string): Promise<TokenizerFile[]> {
  let folder: boolean;
  try {
    folder = Deno.statSync(path).isDirectory;
  } catch (error) {
    throw fileError(path, "read", error);
  }
  if (!folder) {
    const name = path.endsWith(".json") ? "tokenizer.json" : "tokenizer.model";
    const own: TokenizerFile = { name, content: { copyOf: path } };
    if (!VOCABULARIES.includes(basename(path))) return [own];
    const beside = dirname(path);
    return [own, ...copies(beside, [...SETTINGS, ...templates(beside)])];
  }
  const found = copies(path, VOCABULARIES);
  if (found.length === 0) {
    throw new UserError(`folder "${path}" holds no tokenizer.model or tokenizer.json`);
  }
  return [...found, ...copies(path, [...SETTINGS, ...templates(path)])];
}
