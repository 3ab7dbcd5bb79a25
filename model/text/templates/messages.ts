/**
 * Messages of a conversation.
 *
 * @module
 */
import type { Dict } from "./jinja/values.ts";

/** One turn of a conversation, or the system's instructions before the first. */
export interface Message {
  /** `system`, `user`, `assistant`; a model's own template may know others. */
  role: string;
  /** The text; null where the record has none, or parts in place of one. */
  content: string | null;
  /** The message with all its fields, where it is from JSON: what the model's own template sees. */
  record?: Dict;
}
