/**
 * The match that a regular expression's filter takes, by `RegexFilter` of lm_eval/filters/extraction.py.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { findAll } from "./python/regular_expression.ts";
import { strip } from "./python/strings.ts";

/**
 * A match in a text without white space around it: of several groups the first that is not empty; undefined where there is
 * none.
 *
 * @param select Which of the matches: from 0, or from −1 backwards.
 * @throws {UserError} where there are matches, but not so many.
 */
export function regexMatch(expression: RegExp, text: string, select: number): string | undefined {
  const matches = findAll(expression, text);
  if (matches.length === 0) return undefined;
  const match = matches.at(select);
  if (match === undefined) {
    throw new UserError(
      `group_select ${select} of a regular expression's filter asks for a match that an answer has not: it has ` +
        `${matches.length}; expected 0 for the first, or -1 for the last`,
    );
  }
  const found = typeof match === "string" ? match : match.find((group) => group !== "");
  return found === undefined ? undefined : strip(found);
}
