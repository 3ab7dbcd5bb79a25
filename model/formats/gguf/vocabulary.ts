/**
 * What a GGUF file says of its tokenizer: the vocabulary, which of its tokens are special, and the chat templates.
 *
 * @module
 */

import type { Metadata } from "./metadata.ts";
import { openFirstSplit } from "./split.ts";

/** `tokenizer.ggml.token_type`; the numbers are SentencePiece's. */
export const UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4;
/** `tokenizer.ggml.token_type` of all others: a token as any other, and one that stands for none. */
export const NORMAL = 1, UNUSED = 5;

/** Tokens with a role. */
const ROLES = ["bos", "eos", "eot", "eom", "unknown", "padding"] as const;
type Role = typeof ROLES[number];

/** Tokens that end an answer, whatever the file calls them: llama.cpp knows them by their texts, too. */
const END_TEXTS = new Set([
  "<|eot_id|>",
  "<|eom_id|>",
  "<|im_end|>",
  "<|end|>",
  "<end_of_turn>",
  "<|endoftext|>",
  "<|end_of_text|>",
  "<EOT>",
  "<\uff5cend\u2581of\u2581sentence\uff5c>",
]);

/** A tokenizer's vocabulary. */
export interface GgufVocabulary {
  /** `llama` (SentencePiece) or `gpt2` (byte-level BPE), as a rule. */
  model: string;
  tokens: string[];
  /**
   * Of each token. What begins or ends a text is a control token, also where the file says that its maker defined it.
   */
  types: Uint8Array;
  ids: Partial<Record<Role, number>>;
}

const key = (name: string) => `tokenizer.ggml.${name}`;

/** The ids of tokens with a role. Those beyond the vocabulary say that there is none. */
function roleIds(metadata: Metadata, count: number, isPieces: boolean): GgufVocabulary["ids"] {
  const ids: GgufVocabulary["ids"] = isPieces ? { unknown: 0, bos: 1, eos: 2 } : {};
  for (const role of ROLES) {
    const id = metadata.number(key(`${role}_token_id`));
    if (id !== undefined && Number.isSafeInteger(id) && id >= 0) ids[role] = id;
  }
  return Object.fromEntries(Object.entries(ids).filter(([, id]) => id < count));
}

/**
 * The vocabulary; undefined where the file has none.
 *
 * @throws UserError that names the file and the key.
 */
export function readVocabulary(metadata: Metadata): GgufVocabulary | undefined {
  const model = metadata.text(key("model")), tokens = metadata.texts(key("tokens"));
  if (model === undefined || tokens === undefined || tokens.length === 0) return undefined;
  const ids = roleIds(metadata, tokens.length, model === "llama");
  const given = metadata.numbers(key("token_type"));
  if (given !== undefined && given.length !== tokens.length) {
    metadata.fail(key("token_type"), `one for each of ${tokens.length} tokens`);
  }
  const types = new Uint8Array(tokens.length);
  for (let id = 0; id < types.length; id++) types[id] = Number(given?.[id] ?? NORMAL);
  const controls = [ids.bos, ids.eos, ids.eot, ids.eom];
  tokens.forEach((text, id) => {
    const isControl = types[id] === USER_DEFINED && controls.includes(id) || END_TEXTS.has(text);
    if (isControl) types[id] = CONTROL;
  });
  return { model, tokens, types, ids };
}

/** Whether a token ends an answer by its text, whatever its role. */
export function isEndText(text: string): boolean {
  return END_TEXTS.has(text);
}

/** The tokens that end an answer, EOS first. */
export function endTokens({ tokens, ids }: GgufVocabulary): number[] {
  const found = tokens.flatMap((text, id) => END_TEXTS.has(text) ? [id] : []);
  const named = [ids.eos, ids.eot, ids.eom].filter((id) => id !== undefined);
  return [...new Set([...named, ...found])];
}

const TEMPLATE = "tokenizer.chat_template";

/** The chat templates of a file by their names, the main one as "default". @throws UserError that names the file. */
export function readTemplates(path: string): Map<string, string> {
  const { file, metadata } = openFirstSplit(path);
  try {
    const templates = new Map<string, string>();
    const main = metadata.text(TEMPLATE);
    if (main !== undefined) templates.set("default", main);
    for (const name of metadata.texts("tokenizer.chat_templates") ?? []) {
      const template = metadata.text(`${TEMPLATE}.${name}`);
      if (template !== undefined) templates.set(name, template);
    }
    return templates;
  } finally {
    file.close();
  }
}
