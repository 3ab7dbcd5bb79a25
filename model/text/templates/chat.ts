/**
 * From a conversation to the token ids that the model is to continue.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import type { TemplateInputs } from "./chat_rendering.ts";
import type { Message } from "./messages.ts";
import { encodePlain, type PlainTemplate } from "./plain_templates.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { templateIds } from "../tokenizer/vocabulary_check.ts";

export type { Message } from "./messages.ts";

/** How a conversation is written out: `chat` is by the model's own template. */
export type ChatTemplate = PlainTemplate | "chat";

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
  const template = openChatTemplate(inputs, tokenizer.named_tokens);
  return (messages) => {
    const text = template.render(messages);
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
  const encode = template === "chat"
    ? await ownEncoder(tokenizer, inputs)
    : (messages: readonly Message[]) => encodePlain(template, messages, tokenizer);
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
