/**
 * From a conversation to the token ids that the model is to continue.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { findChatTemplate, renderChatTemplate } from "./chat_template.ts";
import { ALPACA_OPENING } from "./prompt.ts";
import { guardSpecial, splitSpecial } from "./special_tokens.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** One turn of a conversation, or the system's instructions before the first. */
export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** How a conversation is written out: `chat` is by the model's own template. */
export type ChatTemplate = "alpaca" | "llama2" | "none" | "chat";

/** A conversation as templates without roles of their own see it. */
interface Turns {
  system: string | undefined;
  /** Questions with their answers; the last, open question has none. */
  turns: { user: string; assistant: string | undefined }[];
}

/** @throws UserError where users and assistants don't take turns, from a user to a user. */
function takeTurns(messages: readonly Message[], template: ChatTemplate): Turns {
  const system = messages[0]?.role === "system" ? messages[0].content : undefined;
  const first = system === undefined ? 0 : 1;
  const rest = messages.slice(first);
  const turns: Turns["turns"] = [];
  for (const [i, { role, content }] of rest.entries()) {
    const expected = i % 2 === 0 ? "user" : "assistant";
    if (role !== expected) {
      throw new UserError(
        `message ${first + i + 1} of the conversation is by "${role}", expected ` +
          `"${expected}": template ${template} takes one system message at most, at the beginning, ` +
          "and then user and assistant by turns",
      );
    }
    if (role === "user") turns.push({ user: content, assistant: undefined });
    else turns[turns.length - 1].assistant = content;
  }
  if (rest.length % 2 === 0) {
    throw new UserError(
      `the conversation does not end with a message by "user", which template ${template} needs`,
    );
  }
  return { system, turns };
}

/**
 * Stanford Alpaca's template, which knows one instruction: earlier turns are sections before it, in the
 * same form; a system message takes the place of the opening sentences.
 */
function renderAlpaca({ system, turns }: Turns): string {
  const sections = turns.map(({ user, assistant = "" }) =>
    `### Instruction:\n${user}\n\n### Response:${assistant}`
  );
  return [system ?? ALPACA_OPENING, ...sections].join("\n\n");
}

/**
 * Llama 2's chat format, as `chat_completion` of Meta's reference code makes it
 * (https://github.com/meta-llama/llama, llama/generation.py): each turn is encoded on its own and stands
 * between BOS and EOS; the system message is part of the first question.
 */
function encodeLlama2({ system, turns }: Turns, tokenizer: Tokenizer): number[] {
  return turns.flatMap(({ user, assistant }, i) => {
    const instructions = i === 0 && system !== undefined ? `<<SYS>>\n${system}\n<</SYS>>\n\n` : "";
    const question = `[INST] ${(instructions + user).trim()} [/INST]`;
    const { prefix_ids: bos } = tokenizer;
    if (assistant === undefined) return [...bos, ...tokenizer.encode(question)];
    const turn = tokenizer.encode(`${question} ${assistant.trim()} `);
    return [...bos, ...turn, tokenizer.eos_id];
  });
}

/** A character that none of the texts holds, of those that Unicode leaves to private use. */
function unusedCharacter(texts: readonly string[]): string {
  for (let code = 0xe000; code < 0xf8ff; code++) {
    const character = String.fromCharCode(code);
    if (!texts.some((text) => text.includes(character))) return character;
  }
  return "\uf8ff";
}

/**
 * The model's own template. Control tokens count where the template writes them; in the messages a guard
 * keeps them apart while the template is rendered, and they are encoded as plain text.
 */
function encodeOwn(
  messages: readonly Message[],
  tokenizer: Tokenizer,
  folder: string | undefined,
): number[] {
  const { special_tokens, named_tokens } = tokenizer;
  const template = findChatTemplate(folder);
  const guard = unusedCharacter([template.source, ...messages.map(({ content }) => content)]);
  const guarded = messages.map(({ role, content }) => ({
    role,
    content: guardSpecial(content, special_tokens, guard),
  }));
  const text = renderChatTemplate(template, guarded, Object.fromEntries(named_tokens));
  return tokenizer.encodeParts(splitSpecial(text, special_tokens, guard));
}

/**
 * Ids of a conversation that the assistant is to continue. BOS comes first, and once: also where the
 * template writes it.
 *
 * - `alpaca`: the prompt of Alpaca's instruction tuning, earlier turns as sections before it.
 * - `llama2`: Meta's `[INST]` format, each earlier turn between BOS and EOS.
 * - `none`: the contents, a line each, for models that continue texts.
 * - `chat`: the Jinja template in the tokenizer's folder.
 *
 * Control tokens that are written out in a message stay plain text.
 *
 * @param folder Where the tokenizer is, or its file; only `chat` needs it.
 * @throws UserError where there is no message, the messages don't fit the template, or there is none.
 */
export function encodeChat(
  messages: readonly Message[],
  template: ChatTemplate,
  tokenizer: Tokenizer,
  folder?: string,
): Uint32Array {
  if (messages.length === 0) throw new UserError("the conversation has no message");
  const encode = (): number[] => {
    switch (template) {
      case "alpaca":
        return tokenizer.encode(renderAlpaca(takeTurns(messages, template)));
      case "llama2":
        return encodeLlama2(takeTurns(messages, template), tokenizer);
      case "none":
        return tokenizer.encode(messages.map(({ content }) => content).join("\n"));
      case "chat":
        return encodeOwn(messages, tokenizer, folder);
    }
  };
  const ids = encode();
  const { bos_id, prefix_ids } = tokenizer;
  return Uint32Array.from(ids[0] === bos_id ? ids : [...prefix_ids, ...ids]);
}
