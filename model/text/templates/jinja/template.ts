/**
 * Jinja2's templates, as transformers sets Jinja2 up for chats unless they are set up otherwise: in an immutable sandbox,
 * with `trim_blocks`, `lstrip_blocks`, `break` and `continue`, the tag `generation`, and a `tojson` that escapes no HTML.
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
import type { LexerSettings } from "./lexer.ts";
import type { Body } from "./nodes.ts";
import { NUMBER_FILTERS } from "./number_filters.ts";
import { parseTemplate } from "./parser.ts";
import { Renderer } from "./renderer.ts";
import { Scope } from "./scope.ts";
import { SEQUENCE_FILTERS } from "./sequence_filters.ts";
import { TESTS } from "./tests.ts";
import { Text } from "./text.ts";
import { TEXT_FILTERS } from "./text_filters.ts";
import { type Value, withUndefined } from "./values.ts";

const FILTERS: ReadonlyMap<string, Filter> = new Map([
  ...TEXT_FILTERS,
  ...NUMBER_FILTERS,
  ...SEQUENCE_FILTERS,
]);

/** How Jinja2 is set up for templates. */
export interface TemplateSettings extends LexerSettings {
  /** Whether all uses of what is undefined are errors: `StrictUndefined`. */
  strict: boolean;
  /** Filters beside Jinja2's own. */
  filters: ReadonlyMap<string, Filter>;
}

/** What transformers sets for chat templates. */
const CHAT: TemplateSettings = {
  trimsBlocks: true,
  keepsNewline: false,
  strict: false,
  filters: new Map(),
};

/** The filters that there are, and Jinja2's tests. */
function environmentOf(filters: ReadonlyMap<string, Filter>): Environment {
  const environment: Environment = {
    filter(name, input, args) {
      const filter = filters.get(name);
      return filter ? filter(input, args, environment) : fail(`there is no filter '${name}'`);
    },
    test(name, input, args) {
      const test = TESTS.get(name);
      return test ? test(input, args, environment) : fail(`there is no test '${name}'`);
    },
    hasFilter: (name) => filters.has(name),
    hasTest: (name) => TESTS.has(name),
  };
  return environment;
}

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
  readonly #environment: Environment;

  /** @throws TemplateError with the line, where it is no Jinja. */
  constructor(source: string, readonly settings: TemplateSettings = CHAT) {
    const filters = new Map([...FILTERS, ...settings.filters]);
    this.#environment = environmentOf(filters);
    const known = { filters: new Set(filters.keys()), tests: new Set(TESTS.keys()) };
    this.#body = guarded(() => parseTemplate(source, known, settings));
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
    const renderer = new Renderer(this.#environment, messages), out: Text[] = [];
    try {
      return withUndefined(this.settings.strict, () =>
        guarded(() =>
          withinBudget(() => {
            scope.begin(this.#body.locals);
            renderer.run(this.#body.statements, scope, out);
            return Text.concat(out);
          })
        ));
    } catch (error) {
      if (error instanceof TemplateError) error.line ??= renderer.line;
      throw error;
    }
  }
}
