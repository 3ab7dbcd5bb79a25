/**
 * From a conversation to the token ids that the model is to continue.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import type { TemplateInputs } from "./chat_rendering.ts";
import { SPACE } from "./jinja/text.ts";
import type { Message } from "./messages.ts";
import { renderPrompt } from "../prompt.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { templateIds } from "../tokenizer/vocabulary_check.ts";

export type { Message } from "./messages.ts";

/** How a conversation is written out: `chat` is by the model's own template. */
export type ChatTemplate = "alpaca" | "llama2" | "none" | "chat";

/** A conversation as templates without roles of their own see it. */
interface Turns {
  system: string | undefined;
  /** Questions with their answers; the last, open question has none. */
  turns: { user: string; assistant: string | undefined }[];
}

/** @throws UserError where a message is no text, which only a model's own template can make one of. */
function textsOf(messages: readonly Message[], template: ChatTemplate) {
  return messages.map(({ role, content }, i) => {
    if (content !== null) return { role, content };
    const which = `message ${i + 1} of the conversation`;
    throw new UserError(
      `${which} has no text as its content, which template ${template} needs; ` +
        "--template chat is the model's own",
    );
  });
}

/** @throws UserError where users and assistants don't take turns, from a user to a user. */
function takeTurns(messages: readonly Message[], template: ChatTemplate): Turns {
  const texts = textsOf(messages, template);
  const system = texts[0]?.role === "system" ? texts[0].content : undefined;
  const first = system === undefined ? 0 : 1;
  const rest = texts.slice(first);
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

/** Stanford Alpaca's template, of whose instructions the last is the open question. */
function renderAlpaca({ system, turns }: Turns): string {
  const history = turns.slice(0, -1)
    .map(({ user, assistant = "" }) => [user, assistant] as const);
  const { user: instruction } = turns[turns.length - 1];
  return renderPrompt({ system, history, instruction }, "alpaca");
}

const BLANKS = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "g");

/** Python's `strip`. */
const strip = (text: string): string => text.replace(BLANKS, "");

/**
 * Llama 2's chat format, as `chat_completion` of Meta's reference code makes it
 * (https://github.com/meta-llama/llama, llama/generation.py): each turn is encoded on its own and stands
 * between BOS and EOS; the system message is part of the first question.
 */
function encodeLlama2({ system, turns }: Turns, tokenizer: Tokenizer): number[] {
  return turns.flatMap(({ user, assistant }, i) => {
    const instructions = i === 0 && system !== undefined ? `<<SYS>>\n${system}\n<</SYS>>\n\n` : "";
    const question = `[INST] ${strip(instructions + user)} [/INST]`;
    const { prefix_ids: bos } = tokenizer;
    if (assistant === undefined) return [...bos, ...tokenizer.encode(question)];
    const turn = tokenizer.encode(`${question} ${strip(assistant)} `);
    return [...bos, ...turn, tokenizer.eos_id];
  });
}

/** What turns a conversation into ids. */
export type ChatEncoder = (messages: readonly Message[]) => Uint32Array;

/**
 * The model's own template. Control tokens count where the template writes them, and nothing of what the
 * messages hold becomes one; as in `transformers`, no BOS is added unless the tokenizer was told to.
 */
async function ownEncoder(
  tokenizer: Tokenizer,
  inputs: TemplateInputs,
): Promise<(messages: readonly Message[]) => number[]> {
  // Most commands need no template: reading the interpreter would cost each of them its time.
  const { openChatTemplate } = await import("./chat_rendering.ts");
  const render = openChatTemplate(inputs, tokenizer.named_tokens);
  return (messages) => {
    const text = render(messages);
    const ids = tokenizer.encodeSpecial(text.value, (start, end) => text.isQuoted(start, end));
    if (ids.length > 0) return templateIds(tokenizer, ids);
    throw new UserError("the chat template makes no token of the conversation");
  };
}

/**
 * What turns conversations, which the assistant is to continue, into ids.
 *
 * - `alpaca`: the prompt of Alpaca's instruction tuning, earlier turns as sections before it.
 * - `llama2`: Meta's `[INST]` format, each earlier turn between BOS and EOS.
 * - `none`: the contents, a line each, for models that continue texts.
 * - `chat`: the Jinja template in the tokenizer's folder, which alone decides on BOS; before the others,
 *   the tokenizer's own BOS comes first.
 *
 * Control tokens that are written out in a message stay plain text.
 *
 * @param inputs For `chat`: where the template is, and what it is given beside the messages.
 * @throws UserError where there is no template, or it is wrong; the encoder, where there is no message or
 *   the messages don't fit the template.
 */
export async function chatEncoder(
  template: ChatTemplate,
  tokenizer: Tokenizer,
  inputs: TemplateInputs = {},
): Promise<ChatEncoder> {
  const { prefix_ids } = tokenizer;
  const own = template === "chat" ? await ownEncoder(tokenizer, inputs) : undefined;
  const encode = (messages: readonly Message[]): number[] => {
    if (own !== undefined) return own(messages);
    if (template === "llama2") return encodeLlama2(takeTurns(messages, template), tokenizer);
    const text = template === "alpaca"
      ? renderAlpaca(takeTurns(messages, template))
      : textsOf(messages, template).map(({ content }) => content).join("\n");
    return [...prefix_ids, ...tokenizer.encode(text)];
  };
  return (messages) => {
    if (messages.length === 0) throw new UserError("the conversation has no message");
    return Uint32Array.from(encode(messages));
  };
}

/** Ids of one conversation, by {@linkcode chatEncoder}. */
export async function encodeChat(
  messages: readonly Message[],
  template: ChatTemplate,
  tokenizer: Tokenizer,
  inputs?: TemplateInputs,
): Promise<Uint32Array> {
  const encode = await chatEncoder(template, tokenizer, inputs);
  return encode(messages);
}
