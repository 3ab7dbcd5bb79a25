/**
 * What a task's keys make of a row: the question, the choices, the target and texts around them, as `ConfigurableTask` of
 * lm-evaluation-harness has them (lm_eval/api/task.py).
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { asText, bind } from "../../model/text/templates/jinja/arguments.ts";
import type { Filter } from "../../model/text/templates/jinja/environment.ts";
import { TemplateError } from "../../model/text/templates/jinja/errors.ts";
import { asInteger } from "../../model/text/templates/jinja/integers.ts";
import { str } from "../../model/text/templates/jinja/repr.ts";
import { Template } from "../../model/text/templates/jinja/template.ts";
import { Text } from "../../model/text/templates/jinja/text.ts";
import { Dict, List, text, typeName, type Value } from "../../model/text/templates/jinja/values.ts";
import type { Document } from "./documents.ts";
import { NoLiteral, readLiteral } from "./python/literal.ts";
import { pythonExpression, substitute } from "./python/regular_expression.ts";

/** The filter that lm-evaluation-harness adds to Jinja2's: Python's `re.sub`. */
const regexReplace: Filter = (input, args) => {
  const { pattern, repl, count } = bind("regex_replace", args, ["pattern", "repl", "count"], {
    count: 0n,
  });
  const expression = pythonExpression(asText("regex_replace", pattern).value, "regex_replace");
  const replacement = asText("regex_replace", repl).value;
  const most = Number(asInteger(count));
  return text(substitute(expression, replacement, asText("regex_replace", input).value, most));
};

const SETTINGS = {
  trimsBlocks: false,
  keepsNewline: true,
  strict: true,
  filters: new Map([["regex_replace", regexReplace]]),
};

/** What a row's target is: a text, the number of a choice, or several of either. */
export type Target = string | number | (string | number)[];

/** A template, a field or a value, as a key of the task has it. */
export type Source = string | number | readonly string[];

const withArticle = (name: string) => `${/^[aeiou]/.test(name) ? "an" : "a"} ${name}`;

/** Reads a task's rows. */
export class TaskTexts {
  readonly #templates = new Map<string, Template>();

  /**
   * @param where The task, for messages.
   * @param features Names of the rows' fields.
   * @param hasChoices Whether the task has choices, of which digits that a template writes are the number.
   */
  constructor(
    readonly where: string,
    readonly features: ReadonlySet<string>,
    readonly hasChoices: boolean,
  ) {}

  #template(source: string, key: string): Template {
    let template = this.#templates.get(source);
    if (template === undefined) {
      try {
        template = new Template(source, SETTINGS);
      } catch (error) {
        throw this.#refused(error, key);
      }
      this.#templates.set(source, template);
    }
    return template;
  }

  #refused(error: unknown, key: string, document?: Document): unknown {
    if (!(error instanceof TemplateError || error instanceof UserError)) return error;
    const row = document === undefined ? "" : `${document.where()}, `;
    return new UserError(`${row}${this.where}: ${key} can't be rendered: ${error.message}`);
  }

  #render(source: string, key: string, document: Document): string {
    const template = this.#template(source, key);
    const variables = new Map(
      document.fields.items().map(([name, value]) => [str(name).value, value]),
    );
    try {
      return template.render(variables).value;
    } catch (error) {
      throw this.#refused(error, key, document);
    }
  }

  /** A field's value where the source is its name, else what the template writes. */
  #resolve(source: string, key: string, document: Document): Value | string {
    if (!this.features.has(source)) return this.#render(source, key, document);
    const value = document.fields.text(source);
    return value === undefined ? null : value;
  }

  #wrong(document: Document, key: string, value: Value, expected: string): UserError {
    const is = typeName(value) === "Undefined" ? "missing" : withArticle(typeName(value));
    return new UserError(
      `${document.where()}, ${this.where}: ${key} is ${is}; expected ${expected}`,
    );
  }

  /** A text that is around the question, which may be a field's or a template's; empty where there is none. */
  around(source: string | undefined, key: string, document: Document): string {
    if (source === undefined || source === "") return "";
    const value = this.#resolve(source, key, document);
    if (typeof value === "string") return value;
    if (value instanceof Text) return value.value;
    throw this.#wrong(document, key, value, "text");
  }

  /** `doc_to_text`: the question, or the number of the choice that is one. */
  question(source: string | number, document: Document): string | number {
    if (typeof source === "number") return source;
    const value = this.#resolve(source, "doc_to_text", document);
    if (typeof value === "string") {
      return this.hasChoices && /^\d+$/.test(value) ? Number(value) : value;
    }
    if (value instanceof Text) return value.value;
    if (this.hasChoices && typeof value === "bigint") return Number(value);
    if (this.hasChoices && typeof value === "boolean") return Number(value);
    throw this.#wrong(document, "doc_to_text", value, "text");
  }

  /** `doc_to_choice`: the texts to choose from, of a task that has any. */
  choices(
    source: string | readonly string[] | undefined,
    document: Document,
  ): string[] | undefined {
    if (source === undefined) return undefined;
    const value = typeof source === "string"
      ? this.#resolve(source, "doc_to_choice", document)
      : new List(source.map(text));
    const list = typeof value === "string"
      ? this.#literal(value, "doc_to_choice", document)
      : value;
    if (!(list instanceof List)) {
      throw this.#wrong(document, "doc_to_choice", list, "a list of texts");
    }
    if (list.items.length === 0) {
      throw new UserError(
        `${document.where()}, ${this.where}: doc_to_choice is an empty list; expected at least one choice`,
      );
    }
    return list.items.map((item, i) => {
      if (item instanceof Text && item.value !== "") return item.value;
      const is = item instanceof Text ? "empty" : withArticle(typeName(item));
      throw new UserError(
        `${document.where()}, ${this.where}: choice ${i} of doc_to_choice is ${is}; expected text`,
      );
    });
  }

  #literal(written: string, key: string, document: Document): Value {
    try {
      return readLiteral(written);
    } catch (error) {
      if (!(error instanceof NoLiteral)) throw error;
      const shown = JSON.stringify(written.length > 100 ? `${written.slice(0, 97)}...` : written);
      throw new UserError(
        `${document.where()}, ${this.where}: ${key} writes ${shown}, which is no list of Python (${error.message}); ` +
          "expected such as ['yes', 'no']",
      );
    }
  }

  /** `doc_to_target`. A number that is no whole one is text, as Python writes it. */
  target(source: Source, document: Document): Target {
    if (typeof source === "number") return source;
    if (typeof source !== "string") return [...source];
    const value = this.#resolve(source, "doc_to_target", document);
    if (typeof value !== "string") return this.#targetOf(value, document);
    if (this.hasChoices && /^\d+$/.test(value)) return Number(value);
    if (!/^\[[^]*\]$/.test(value)) return value;
    try {
      return this.#targetOf(readLiteral(value), document);
    } catch (error) {
      if (error instanceof NoLiteral) return value;
      throw error;
    }
  }

  #targetOf(value: Value, document: Document): Target {
    if (value instanceof Text) return value.value;
    if (typeof value === "bigint" || (typeof value === "boolean" && this.hasChoices)) {
      return Number(value);
    }
    if (value instanceof List) {
      return value.items.map((item) => {
        const one = this.#targetOf(item, document);
        if (!Array.isArray(one)) return one;
        throw this.#wrong(document, "doc_to_target", value, "text, a number or a list of them");
      });
    }
    if (value === null || typeName(value) === "Undefined" || value instanceof Dict) {
      throw this.#wrong(document, "doc_to_target", value, "text, a number or a list of them");
    }
    if (!this.hasChoices) return str(value).value;
    throw this.#wrong(document, "doc_to_target", value, "a choice's number or text");
  }
}
