/**
 * The filter `multi_choice_regex`: the letter of the choice that an answer names, by `MultiChoiceRegexFilter` of
 * lm_eval/filters/extraction.py.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { lower } from "../../model/text/templates/jinja/string_cases.ts";
import { Text } from "../../model/text/templates/jinja/text.ts";
import { List } from "../../model/text/templates/jinja/values.ts";
import type { Document } from "./documents.ts";
import { length, strip } from "./python/strings.ts";
import { pythonExpression, substitute } from "./python/regular_expression.ts";
import { regexMatch } from "./regex_match.ts";

/** The settings of the filter. */
export interface MultiChoiceSettings {
  regex_pattern: string;
  group_select: number;
  fallback: string;
  ignore_case: boolean;
  ignore_punctuation: boolean;
  regexes_to_ignore: readonly string[];
}

const escaped = (text: string) => text.replaceAll(/[/\-^$\\.*+?()[\]{}|]/g, "\\$&");

function choicesOf({ fields, where }: Document): string[] {
  const choices = fields.text("choices");
  const texts = choices instanceof List ? choices.items : [];
  const found = texts.flatMap((item) => item instanceof Text ? item.value : []);
  if (found.length > 0 && found.length === texts.length) return found;
  throw new UserError(
    `${where()}: choices is no list of texts, which the filter multi_choice_regex needs`,
  );
}

/**
 * Makes the filter. What the expression matches comes first, then the text of a choice, then its letter after a colon.
 *
 * @param where What has the settings, for messages.
 */
export function multiChoiceFilter(
  settings: MultiChoiceSettings,
  where: string,
): (answer: string, document: Document) => string {
  const { group_select, fallback } = settings;
  const expression = pythonExpression(settings.regex_pattern, where);
  const ignored = settings.regexes_to_ignore.map((each) => pythonExpression(each, where));
  const simplified = (text: string) => {
    let kept = ignored.reduce((rest, each) => substitute(each, "", rest), text);
    if (settings.ignore_case) kept = lower(new Text(kept)).value;
    return settings.ignore_punctuation ? kept.replaceAll(/\p{P}/gu, "") : kept;
  };
  return (answer, document) => {
    const own = regexMatch(expression, answer, group_select);
    if (own) return own;
    const letters = new Map<string, string>(), texts: string[] = [];
    for (const [i, choice] of choicesOf(document).entries()) {
      const text = simplified(strip(choice));
      letters.set(text, `(${String.fromCharCode(65 + i)})`);
      texts.push(text);
    }
    // Where one choice begins another, the longer one is the one that is meant.
    const byLength = texts.map(escaped).sort((a, b) => length(b) - length(a));
    const named = new RegExp(byLength.join("|"), "gu");
    const text = regexMatch(named, simplified(answer), group_select);
    if (text) return letters.get(text) ?? text;
    const names = texts.map((_, i) => String.fromCharCode(65 + i));
    const afterColon = pythonExpression(`:[\\s]*(${names.map(escaped).join("|")})`, where);
    const letter = regexMatch(afterColon, answer, group_select);
    return letter ? `(${letter})` : fallback;
  };
}
