/**
 * How much a request's body may hold besides text: checking each value takes its time, in which nobody else is answered.
 *
 * @module
 */
import { ApiError } from "./api_error.ts";

/** Fields and entries of lists at most, and ids of tokens where there may be lists of them. */
const MOST_VALUES = 50_000, MOST_IDS = 1_000_000;

const QUOTE = 0x22, COMMA = 0x2c, COLON = 0x3a, BACKSLASH = 0x5c;

/** Where a text of JSON ends that begins with the quote at a place. */
function textEnd(json: string, start: number): number {
  let at = start + 1;
  for (; at < json.length && json.charCodeAt(at) !== QUOTE; at++) {
    if (json.charCodeAt(at) === BACKSLASH) at++;
  }
  return at;
}

/**
 * Refuses a body that holds too much. It is not read for that: its commas and colons are counted.
 *
 * @param hasIds Whether lists of ids may be in it, which take little time.
 * @throws {ApiError}
 */
export function checkBodySize(json: string, hasIds: boolean): void {
  // An id that follows a comma and comes before another, or ends its list.
  const id = /\s*\d{1,9}\s*(?=[,\]])/y;
  let values = 0, ids = 0;
  for (let at = 0; at < json.length; at++) {
    const unit = json.charCodeAt(at);
    if (unit === QUOTE) at = textEnd(json, at);
    if (unit !== COMMA && unit !== COLON) continue;
    id.lastIndex = at + 1;
    if (hasIds && unit === COMMA && id.test(json)) {
      ids++;
      at = id.lastIndex - 1;
    } else values++;
  }
  const [count, most, what] = values > MOST_VALUES
    ? [values, MOST_VALUES, "fields and entries of lists"]
    : [ids, MOST_IDS, "ids of tokens"];
  if (count <= most) return;
  throw new ApiError(400, `the body holds ${count} ${what}; expected at most ${most}`, {
    code: "invalid_value",
  });
}
