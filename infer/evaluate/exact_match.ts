/**
 * Whether an answer is the expected one, by `exact_match_hf_evaluate` of lm_eval/api/metrics.py.
 *
 * @module
 */
import { lower } from "../../model/text/templates/jinja/string_cases.ts";
import { Text } from "../../model/text/templates/jinja/text.ts";
import { pythonExpression, substitute } from "./python/regular_expression.ts";

/** What does not count where answers are compared. */
export interface ExactMatchSettings {
  regexes_to_ignore: readonly string[];
  ignore_case: boolean;
  ignore_punctuation: boolean;
  ignore_numbers: boolean;
}

/** Python's `string.punctuation`. */
const PUNCTUATION = /[!-/:-@[-`{-~]/g;
const DIGITS = /[0-9]/g;

/** Makes a text one without what does not count. @param where What has the settings, for messages. */
export function comparable(
  settings: ExactMatchSettings,
  where: string,
): (text: string) => string {
  const expressions = settings.regexes_to_ignore.map((each) => pythonExpression(each, where));
  return (text) => {
    let kept = expressions.reduce((rest, each) => substitute(each, "", rest), text);
    if (settings.ignore_case) kept = lower(new Text(kept)).value;
    if (settings.ignore_punctuation) kept = kept.replaceAll(PUNCTUATION, "");
    if (settings.ignore_numbers) kept = kept.replaceAll(DIGITS, "");
    return kept;
  };
}
