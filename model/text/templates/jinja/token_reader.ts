/**
 * Goes through the tokens of a template.
 *
 * @module
 */
import { fail } from "./errors.ts";
import type { Token } from "./lexer.ts";

/** How deep expressions and blocks may be inside each other. */
const MAX_DEPTH = 200;

/** A place in a list of tokens. */
export class TokenReader {
  #next = 0;
  #depth = 0;

  /** @param tokens The last is of type `end`. */
  constructor(readonly tokens: readonly Token[]) {}

  get current(): Token {
    return this.tokens[this.#next];
  }

  /** The token after the current one. */
  get following(): Token {
    return this.tokens[Math.min(this.#next + 1, this.tokens.length - 1)];
  }

  advance(): Token {
    const token = this.current;
    if (token.type !== "end") this.#next++;
    return token;
  }

  isOperator(value: string): boolean {
    return this.current.type === "operator" && this.current.value === value;
  }

  isName(...values: readonly string[]): boolean {
    return this.current.type === "name" && values.includes(this.current.value);
  }

  skipOperator(value: string): boolean {
    if (!this.isOperator(value)) return false;
    this.advance();
    return true;
  }

  skipName(value: string): boolean {
    if (!this.isName(value)) return false;
    this.advance();
    return true;
  }

  /** @throws TemplateError that says what was expected. */
  unexpected(expected: string): never {
    const { type, value, line } = this.current;
    if (type === "end") fail(`the template ends where ${expected} is expected`, line);
    fail(`expected ${expected}, got ${type === "data" ? "text" : `'${value}'`}`, line);
  }

  expectOperator(value: string): Token {
    return this.isOperator(value) ? this.advance() : this.unexpected(`'${value}'`);
  }

  expect(type: Token["type"]): Token {
    return this.current.type === type ? this.advance() : this.unexpected(`'${type}'`);
  }

  expectName(): string {
    const token = this.current;
    if (token.type !== "name") this.unexpected("a name");
    this.advance();
    return token.value;
  }

  /** Guards what calls itself. */
  nested<T>(parse: () => T): T {
    if (++this.#depth > MAX_DEPTH) {
      fail(`the template is more than ${MAX_DEPTH} levels deep`, this.current.line);
    }
    const parsed = parse();
    this.#depth--;
    return parsed;
  }
}
