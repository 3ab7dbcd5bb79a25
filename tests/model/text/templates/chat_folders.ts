/** Messages, and folders with a chat template, for the tests of conversations. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { UserError } from "../../../../kernels/errors.ts";
import {
  type ChatTemplate,
  encodeChat,
  type Message,
} from "../../../../model/text/templates/chat.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { fixturePath } from "../../../fixtures.ts";
import { fromSentencePiece, special, writeTokenizer } from "../tokenizer/tokenizer_files.ts";

/** The tiny SentencePiece tokenizer. */
export const tokenizer = await loadTokenizer(fixturePath("tiny_tokenizer.model"));
export const { eos_id: EOS } = tokenizer, BOS = tokenizer.bos_id!;
/** The ids of a text without BOS. */
export const encode = (text: string): number[] => tokenizer.encode(text);

/** The folder of all that a test file writes; it is gone at the end. */
export const root = Deno.makeTempDirSync();
globalThis.addEventListener("unload", () => Deno.removeSync(root, { recursive: true }));
let folders = 0;

/** A folder with a chat template, and the tiny tokenizer as tokenizer.json with more control tokens. */
export function folderWith(chat_template: unknown, tokens: string[], jinja?: string): string {
  const json = fromSentencePiece(fixturePath("tiny_tokenizer.model"));
  json.added_tokens.push(...tokens.map((token, i) => special(token, 360 + i)));
  return writeTokenizer(join(root, `${folders++}`), json, {
    "tokenizer_config.json": { bos_token: "<s>", eos_token: "</s>", chat_template },
    ...(jinja === undefined ? {} : { "chat_template.jinja": jinja }),
  });
}

export const user = (content: string): Message => ({ role: "user", content });
export const assistant = (content: string): Message => ({ role: "assistant", content });
export const system = (content: string): Message => ({ role: "system", content });

/** A conversation that every template can render. */
export const TALK = [
  system("Be brief."),
  user("Name a bird."),
  assistant("Lorikeet"),
  user("Another?"),
];

/** Asserts that a conversation is refused with this message; `folder` is the model's. */
export async function refused(
  messages: Message[],
  template: ChatTemplate,
  message: RegExp,
  folder?: string,
): Promise<void> {
  await assert.rejects(
    () => encodeChat(messages, template, tokenizer, { folder }),
    (error) => error instanceof UserError && message.test(error.message),
    `${message}`,
  );
}

/** The named tokens of the tiny tokenizer. */
export const NAMED = new Map([["bos_token", "<s>"], ["eos_token", "</s>"]]);

/** A folder with these files. */
export function folderOf(files: Record<string, unknown>): string {
  const folder = join(root, `${folders++}`);
  for (const [name, content] of Object.entries(files)) {
    const file = join(folder, name);
    Deno.mkdirSync(dirname(file), { recursive: true });
    Deno.writeTextFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
  }
  return folder;
}
