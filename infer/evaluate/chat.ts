/**
 * Contexts as conversations: the model's own template, as `HFLM.apply_chat_template` of lm-evaluation-harness uses it.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { openChatTemplate } from "../../model/text/templates/chat_rendering.ts";
import type { Message } from "../../model/text/templates/messages.ts";
import type { Tokenizer } from "../../model/text/tokenizer/tokenizer.ts";
import type { Turn } from "./context.ts";
import { stripEnd } from "./python/strings.ts";

/** What stands for the end of a message that goes on, as in `transformers`. */
const END_TAG = "CONTINUE_FINAL_MESSAGE_TAG ";

/** The template, and what it is given beside the messages. */
export interface ChatInputs {
  tokenizer: Tokenizer;
  /** Where the tokenizer is. */
  folder: string;
  /** Variables as a JSON object. */
  variables: string | undefined;
}

/** A text up to where the last message ends, which bore the tag. */
function beforeEnd(rendered: string): string {
  const end = rendered.lastIndexOf(END_TAG.trimEnd());
  if (end < 0) {
    throw new UserError(
      "the chat template leaves out the end of gen_prefix, from which the assistant is to go on; expected one that " +
        "writes the last message as it is",
    );
  }
  const before = rendered.slice(0, end);
  return rendered.startsWith(END_TAG, end) ? before : stripEnd(before);
}

/**
 * What renders contexts. Where the template refuses a conversation with a system message, it is rendered without.
 *
 * @throws {UserError} where there is no template, or it is wrong.
 */
export function chatRenderer(
  { tokenizer, folder, variables }: ChatInputs,
): (turns: readonly Turn[], continues: boolean) => string {
  const given = variables === undefined
    ? undefined
    : { json: variables, name: "--template-kwargs" };
  const template = openChatTemplate({ folder, variables: given }, tokenizer.named_tokens);
  const render = (turns: readonly Turn[], continues: boolean): string => {
    const messages = turns.map(({ role, content }, i): Message => ({
      role,
      content: continues && i === turns.length - 1 ? content + END_TAG : content,
    }));
    const { value } = template.conversation({ messages })(messages.length, !continues);
    return continues ? beforeEnd(value) : value;
  };
  return (turns, continues) => {
    try {
      return render(turns, continues);
    } catch (error) {
      const others = turns.filter(({ role }) => role !== "system");
      if (!(error instanceof UserError) || others.length === turns.length) throw error;
      return render(others, continues);
    }
  };
}
