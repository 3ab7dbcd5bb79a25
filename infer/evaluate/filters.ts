/**
 * Filters: what is taken out of answers before they are compared, as lm_eval/filters has it.
 *
 * @module
 */
import { z } from "zod";
import { UserError } from "../../kernels/errors.ts";
import { didYouMean } from "../../kernels/suggestion.ts";
import { brief } from "../../model/files/json_file.ts";
import { lower, upper } from "../../model/text/templates/jinja/string_cases.ts";
import { Text } from "../../model/text/templates/jinja/text.ts";
import type { Document } from "./documents.ts";
import { multiChoiceFilter } from "./multi_choice_filter.ts";
import { strip } from "./python/strings.ts";
import { pythonExpression } from "./python/regular_expression.ts";
import { regexMatch } from "./regex_match.ts";

/** The answers of a row, one a repeat; one alone where a filter has chosen it. */
export type Answers = string | readonly string[];

/** What a filter makes of the answers of a row. */
type Filter = (answers: Answers, document: Document) => Answers;

/** Filters one after the other. */
export interface FilterChain {
  name: string;
  apply: Filter;
}

const oneByOne =
  (change: (answer: string, document: Document) => string): Filter => (answers, document) =>
    typeof answers === "string"
      ? change(answers, document)
      : answers.map((answer) => change(answer, document));

const listOf = (answers: Answers) => typeof answers === "string" ? [...answers] : answers;

/** The answer that is there most often, of several the first. */
function mostCommon(answers: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const answer of answers) counts.set(answer, (counts.get(answer) ?? 0) + 1);
  const most = Math.max(...counts.values());
  return [...counts].find(([, count]) => count === most)?.[0] ?? "";
}

/** Settings of `regex` and `multi_choice_regex`. */
const REGEX = {
  regex_pattern: z.string().default("#### (\\-?[0-9\\.\\,]+)"),
  group_select: z.int().default(0),
  fallback: z.string().default("[invalid]"),
};

/** Makes a filter of its settings; `where` is what it is in, for messages. */
type Make<S> = (settings: S, where: string) => Filter;

/** A filter with the settings that it takes. */
function define<S extends z.ZodObject>(schema: S, make: Make<z.output<S>>) {
  return {
    schema,
    make: (settings: unknown, where: string) => make(schema.parse(settings), where),
  };
}

const nothing = z.strictObject({});

/** The filters by their names. */
const FILTERS: Readonly<Record<string, { schema: z.ZodObject; make: Make<unknown> }>> = {
  take_first: define(nothing, () => (answers) => listOf(answers)[0]),
  take_first_k: define(
    z.strictObject({ k: z.int().min(1) }),
    ({ k }) => (answers) => listOf(answers).slice(0, k),
  ),
  majority_vote: define(nothing, () => (answers) => [mostCommon(listOf(answers))]),
  remove_whitespace: define(nothing, () => oneByOne(strip)),
  lowercase: define(nothing, () => oneByOne((answer) => lower(new Text(answer)).value)),
  uppercase: define(nothing, () => oneByOne((answer) => upper(new Text(answer)).value)),
  map: define(
    z.strictObject({
      mapping_dict: z.record(z.string(), z.string()).default({}),
      default_value: z.string(),
    }),
    ({ mapping_dict, default_value }) =>
      oneByOne((answer) =>
        Object.hasOwn(mapping_dict, answer) ? mapping_dict[answer] : default_value
      ),
  ),
  regex: define(z.strictObject(REGEX), ({ regex_pattern, group_select, fallback }, where) => {
    const expression = pythonExpression(regex_pattern, where);
    return oneByOne((answer) => regexMatch(expression, answer, group_select) ?? fallback);
  }),
  multi_choice_regex: define(
    z.strictObject({
      ...REGEX,
      ignore_case: z.boolean().default(false),
      ignore_punctuation: z.boolean().default(false),
      regexes_to_ignore: z.array(z.string()).default([]),
    }),
    (settings, where) => oneByOne(multiChoiceFilter(settings, where)),
  ),
};

function readFilter(entry: unknown, where: string): Filter {
  const { function: name, ...settings }: Record<string, unknown> =
    typeof entry === "object" && entry !== null ? { ...entry } : {};
  const names = Object.keys(FILTERS);
  if (typeof name !== "string" || !Object.hasOwn(FILTERS, name)) {
    const near = typeof name === "string" ? didYouMean(name, names) : "";
    throw new UserError(
      `${where}: function is ${brief(name)}; expected one of ${names.join(", ")}${near}`,
    );
  }
  const { schema, make } = FILTERS[name];
  const read = schema.safeParse(settings);
  if (read.success) return make(settings, `${where}: ${name}`);
  const [issue] = read.error.issues;
  throw new UserError(
    `${where}: ${name} has ${brief(settings)} (${
      issue.path.join(".") || "its keys"
    }: ${issue.message}); ` +
      `expected ${Object.keys(schema.shape).join(", ") || "no settings"}`,
  );
}

/** Where a task has no list. */
const TAKE_FIRST: FilterChain = { name: "none", apply: (answers) => listOf(answers)[0] };

/**
 * The chains of filters of a task.
 *
 * @throws {UserError} for a filter that there is not, or whose settings are wrong.
 */
export function filterChains(
  list: readonly Record<string, unknown>[] | undefined,
  where: string,
): FilterChain[] {
  if (list === undefined) return [TAKE_FIRST];
  if (list.length === 0) throw new UserError(`${where}: filter_list is empty; expected a filter`);
  return list.map(({ name, filter }, i) => {
    const of = `${where}: filter_list[${i}]`;
    if (typeof name !== "string" || !Array.isArray(filter)) {
      throw new UserError(
        `${of} is ${brief({ name, filter })}; expected a name and a list of filters`,
      );
    }
    const steps = filter.map((entry) => readFilter(entry, of));
    const apply: Filter = (answers, document) =>
      steps.reduce((rest, step) => step(rest, document), answers);
    return { name, apply };
  });
}
