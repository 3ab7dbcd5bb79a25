/**
 * Jinja2's templates, as transformers sets Jinja2 up for chats: in an immutable sandbox, with `trim_blocks`,
 * `lstrip_blocks`, `break` and `continue`, the tag `generation`, and a `tojson` that escapes no HTML.
 *
 * https://jinja.palletsprojects.com/en/stable/templates/ is the language; transformers'
 * utils/chat_template_utils.py the set-up.
 *
 * @module
 */
import { withinBudget } from "./budget.ts";
import type { Environment, Filter } from "./environment.ts";
import { fail, TemplateError } from "./errors.ts";
import { globals } from "./globals.ts";
import type { Body } from "./nodes.ts";
import { NUMBER_FILTERS } from "./number_filters.ts";
import { parseTemplate } from "./parser.ts";
import { Renderer } from "./renderer.ts";
import { Scope } from "./scope.ts";
import { SEQUENCE_FILTERS } from "./sequence_filters.ts";
import { TESTS } from "./tests.ts";
import { Text } from "./text.ts";
import { TEXT_FILTERS } from "./text_filters.ts";
import type { Value } from "./values.ts";

const FILTERS: ReadonlyMap<string, Filter> = new Map([
  ...TEXT_FILTERS,
  ...NUMBER_FILTERS,
  ...SEQUENCE_FILTERS,
]);

const ENVIRONMENT: Environment = {
  filter(name, input, args) {
    const filter = FILTERS.get(name);
    return filter ? filter(input, args, ENVIRONMENT) : fail(`there is no filter '${name}'`);
  },
  test(name, input, args) {
    const test = TESTS.get(name);
    return test ? test(input, args, ENVIRONMENT) : fail(`there is no test '${name}'`);
  },
  hasFilter: (name) => FILTERS.has(name),
  hasTest: (name) => TESTS.has(name),
};

const KNOWN = { filters: new Set(FILTERS.keys()), tests: new Set(TESTS.keys()) };

/** @throws TemplateError in place of an overflow of the stack. */
function guarded<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (error instanceof RangeError) {
      fail("the template, or a value in it, is too deep or too long");
    }
    throw error;
  }
}

/** A template that was read. */
export class Template {
  readonly #body: Body;

  /** @throws TemplateError with the line, where it is no Jinja. */
  constructor(source: string) {
    this.#body = guarded(() => parseTemplate(source, KNOWN));
  }

  /**
   * What the template writes.
   *
   * @param variables What it is given by name.
   * @param now What the time is, for `strftime_now`.
   * @param messages Numbers of the messages among the variables' values, by which the text tells what was written
   *   during the turn of each in a loop.
   * @throws TemplateError with the line, where Jinja2 refuses it or the template itself does.
   */
  render(
    variables: ReadonlyMap<string, Value>,
    now: () => Date = () => new Date(),
    messages: ReadonlyMap<Value, number> = new Map(),
  ): Text {
    const scope = new Scope(new Map([...globals(now), ...variables]), undefined);
    const renderer = new Renderer(ENVIRONMENT, messages), out: Text[] = [];
    try {
      return guarded(() =>
        withinBudget(() => {
          scope.begin(this.#body.locals);
          renderer.run(this.#body.statements, scope, out);
          return Text.concat(out);
        })
      );
    } catch (error) {
      if (error instanceof TemplateError) error.line ??= renderer.line;
      throw error;
    }
  }
}
