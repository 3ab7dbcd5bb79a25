/**
 * Messages of a conversation.
 *
 * @module
 */
import type { Dict, List } from "./jinja/values.ts";

/** One turn of a conversation, or the system's instructions before the first. */
export interface Message {
  /** `system`, `user`, `assistant`; a model's own template may know others. */
  role: string;
  /** The text; null where the record has none, or parts in place of one. */
  content: string | null;
  /** The message with all its fields, where it is from JSON: what the model's own template sees. */
  record?: Dict;
}

/** Messages with what the model's own template is given beside them. */
export interface Conversation {
  messages: readonly Message[];
  /** Tools that the model may call, as JSON schemas. */
  tools?: List;
  /** Variables of the template, for this conversation alone. */
  variables?: Dict;
}
