/**
 * Texts as Python takes them: by code points, and with its white space.
 *
 * @module
 */
import { SPACE } from "../../../model/text/templates/jinja/text.ts";

const ENDS_IN_SPACE = new RegExp(`[${SPACE}]$`), BEGINS_WITH_SPACE = new RegExp(`^[${SPACE}]`);
const TRAILING = new RegExp(`[${SPACE}]+$`), AROUND = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "g");

/** Whether the last character is white space. */
export const endsInSpace = (text: string): boolean => ENDS_IN_SPACE.test(text);

/** Whether the first character is white space. */
export const beginsWithSpace = (text: string): boolean => BEGINS_WITH_SPACE.test(text);

/** `str.rstrip`. */
export const stripEnd = (text: string): string => text.replace(TRAILING, "");

/** `str.strip`. */
export const strip = (text: string): string => text.replace(AROUND, "");

/** `len`: code points. */
export function length(text: string): number {
  let points = 0;
  for (const _ of text) points++;
  return points;
}

/** Bytes in UTF-8. */
export const bytes = (text: string): number => new TextEncoder().encode(text).length;

/** `re.split(r"\s+", text)`: how many words there are, an empty one at either end counted. */
export const words = (text: string): number => text.split(new RegExp(`[${SPACE}]+`)).length;
