/**
 * The operands of Jinja2's expressions, from tokens to a tree: literals, names, what is in brackets, and the
 * attributes, calls, filters and tests that follow.
 *
 * @module
 */
import { fail } from "./errors.ts";
import type { CallArguments, Expression, Target } from "./nodes.ts";
import { TokenReader } from "./token_reader.ts";
import { text } from "./values.ts";

const NO_ARGUMENTS: CallArguments = {
  positional: [],
  named: [],
  spread: undefined,
  namedSpread: undefined,
};

const CONSTANTS = new Map<string, boolean | null>([
  ["true", true],
  ["True", true],
  ["false", false],
  ["False", false],
  ["none", null],
  ["None", null],
]);

/** Reads operands; how they are put together is up to the class above. */
export abstract class OperandParser extends TokenReader {
  /** An expression, with `a if b else c` where `conditional`. */
  abstract expression(conditional?: boolean): Expression;

  /** A name, a literal, or what is in brackets. */
  primary(): Expression {
    const token = this.current, { line } = token;
    switch (token.type) {
      case "name": {
        this.advance();
        const value = CONSTANTS.get(token.value);
        return value === undefined
          ? { kind: "name", name: token.value, line }
          : { kind: "constant", value, line };
      }
      case "string": {
        let value = "";
        while (this.current.type === "string") value += this.advance().value;
        return { kind: "constant", value: text(value), line };
      }
      case "integer":
      case "float":
        this.advance();
        return { kind: "constant", value: token.value, line };
      default:
    }
    if (this.skipOperator("(")) {
      const inside = this.tuple({ brackets: true });
      this.expectOperator(")");
      return inside;
    }
    if (this.isOperator("[")) return this.#list();
    if (this.isOperator("{")) return this.#dict();
    this.unexpected("an expression");
  }

  /** Expressions with commas, which make a tuple, or one without. */
  tuple(
    { conditional = true, brackets = false, end = [] }: {
      conditional?: boolean;
      brackets?: boolean;
      end?: readonly string[];
    } = {},
  ): Expression {
    const { line } = this.current;
    const items: Expression[] = [];
    let comma = false;
    for (;;) {
      if (items.length > 0) this.expectOperator(",");
      if (this.#tupleEnds(end)) break;
      items.push(this.expression(conditional));
      if (!this.isOperator(",")) break;
      comma = true;
    }
    if (comma) return { kind: "tuple", items, line };
    if (items.length > 0) return items[0];
    if (!brackets) this.unexpected("an expression");
    return { kind: "tuple", items, line };
  }

  #tupleEnds(end: readonly string[]): boolean {
    const { type } = this.current;
    return type === "}}" || type === "%}" || this.isOperator(")") || this.isName(...end);
  }

  #list(): Expression {
    const { line } = this.expectOperator("[");
    const items: Expression[] = [];
    while (!this.isOperator("]")) {
      if (items.length > 0) this.expectOperator(",");
      if (this.isOperator("]")) break;
      items.push(this.expression());
    }
    this.expectOperator("]");
    return { kind: "list", items, line };
  }

  #dict(): Expression {
    const { line } = this.expectOperator("{");
    const items: (readonly [Expression, Expression])[] = [];
    while (!this.isOperator("}")) {
      if (items.length > 0) this.expectOperator(",");
      if (this.isOperator("}")) break;
      const key = this.expression();
      this.expectOperator(":");
      items.push([key, this.expression()]);
    }
    this.expectOperator("}");
    return { kind: "dict", items, line };
  }

  /** An operand with what follows it: attributes, items and calls. */
  protected postfix(node: Expression): Expression {
    for (;;) {
      if (this.isOperator(".") || this.isOperator("[")) node = this.#subscript(node);
      else if (this.isOperator("(")) node = this.#call(node);
      else return node;
    }
  }

  /** An operand with the filters and tests that follow it. */
  protected filters(node: Expression): Expression {
    for (;;) {
      if (this.isOperator("|")) node = this.filter(node);
      else if (this.isName("is")) node = this.#test(node);
      else if (this.isOperator("(")) node = this.#call(node);
      else return node;
    }
  }

  #subscript(object: Expression): Expression {
    const { line } = this.current;
    if (this.skipOperator(".")) {
      const token = this.advance();
      if (token.type === "name") return { kind: "attribute", object, name: token.value, line };
      if (token.type !== "integer") fail("expected a name or a number after '.'", token.line);
      return { kind: "item", object, key: { kind: "constant", value: token.value, line }, line };
    }
    this.expectOperator("[");
    const keys: Expression[] = [];
    let slice: Expression | undefined;
    while (!this.isOperator("]")) {
      if (keys.length > 0 || slice) this.expectOperator(",");
      const key = this.isOperator(":") ? undefined : this.expression();
      if (this.isOperator(":")) {
        if (keys.length > 0 || slice) fail("a slice stands alone in its brackets", line);
        slice = this.#slice(object, key, line);
      } else if (key) keys.push(key);
    }
    this.expectOperator("]");
    if (slice) {
      if (keys.length > 0) fail("a slice stands alone in its brackets", line);
      return slice;
    }
    const key: Expression = keys.length === 1 ? keys[0] : { kind: "tuple", items: keys, line };
    return { kind: "item", object, key, line };
  }

  #slice(object: Expression, start: Expression | undefined, line: number): Expression {
    const bound = () =>
      this.isOperator(":") || this.isOperator("]") || this.isOperator(",")
        ? undefined
        : this.expression();
    this.expectOperator(":");
    const stop = bound();
    const step = this.skipOperator(":") ? bound() : undefined;
    return { kind: "slice", object, start, stop, step, line };
  }

  #call(callee: Expression): Expression {
    const { line } = this.current;
    return { kind: "call", callee, args: this.#arguments(), line };
  }

  #arguments(): CallArguments {
    const { line } = this.expectOperator("(");
    const args: CallArguments = { ...NO_ARGUMENTS, positional: [], named: [] };
    const ensure = (right: boolean) => {
      if (!right) fail("the arguments of a call are in the wrong order", line);
    };
    for (let first = true; !this.isOperator(")"); first = false) {
      if (!first) {
        this.expectOperator(",");
        if (this.isOperator(")")) break;
      }
      const { following } = this;
      if (this.skipOperator("*")) {
        ensure(args.spread === undefined && args.namedSpread === undefined);
        args.spread = this.expression();
      } else if (this.skipOperator("**")) {
        ensure(args.namedSpread === undefined);
        args.namedSpread = this.expression();
      } else if (
        this.current.type === "name" && following.type === "operator" && following.value === "="
      ) {
        ensure(args.namedSpread === undefined);
        const name = this.expectName();
        this.advance();
        if (args.named.some((other) => other.name === name)) {
          fail(`argument '${name}' is given twice`, line);
        }
        args.named.push({ name, value: this.expression() });
      } else {
        ensure(
          args.spread === undefined && args.namedSpread === undefined && args.named.length === 0,
        );
        args.positional.push(this.expression());
      }
    }
    this.expectOperator(")");
    return args;
  }

  #dottedName(): string {
    let name = this.expectName();
    while (this.skipOperator(".")) name += `.${this.expectName()}`;
    return name;
  }

  /** Filters from the current `|` on; of a block, the first has no `|`. */
  filter(input: Expression | undefined, { first = false } = {}): Expression {
    let node = input;
    while (first || this.isOperator("|")) {
      if (!first) this.advance();
      first = false;
      const { line } = this.current;
      const name = this.#dottedName();
      const args = this.isOperator("(") ? this.#arguments() : NO_ARGUMENTS;
      node = { kind: "filter", name, input: node, args, line };
    }
    return node ?? this.unexpected("a filter");
  }

  #test(input: Expression): Expression {
    const { line } = this.advance();
    const negated = this.skipName("not");
    const name = this.#dottedName();
    let args = NO_ARGUMENTS;
    if (this.isOperator("(")) args = this.#arguments();
    else if (this.#argumentBegins()) {
      if (this.isName("is")) fail("tests can't be chained with 'is'", line);
      const argument = this.nested(() => this.postfix(this.primary()));
      args = { ...NO_ARGUMENTS, positional: [argument] };
    }
    return { kind: "test", name, input, args, negated, line };
  }

  /** Whether the argument of a test follows, which needs no brackets. */
  #argumentBegins(): boolean {
    const { type } = this.current;
    if (type === "name") return !this.isName("else", "or", "and");
    if (type === "string" || type === "integer" || type === "float") return true;
    return this.isOperator("[") || this.isOperator("{");
  }

  /** What is assigned to: names, in a tuple or not, and members of a namespace where `members`. */
  target(
    { members = false, end = [] }: { members?: boolean; end?: readonly string[] } = {},
  ): Target {
    const { line } = this.current;
    const items: Target[] = [];
    let comma = false;
    for (;;) {
      if (items.length > 0) this.expectOperator(",");
      if (this.#tupleEnds(end)) break;
      items.push(this.#singleTarget(members));
      if (!this.isOperator(",")) break;
      comma = true;
    }
    if (!comma && items.length === 1) return items[0];
    if (items.length === 0) this.unexpected("a name to assign to");
    return { kind: "tuple", items, line };
  }

  #singleTarget(members: boolean): Target {
    const { line } = this.current;
    if (this.skipOperator("(")) {
      const inside = this.isOperator(")")
        ? { kind: "tuple" as const, items: [], line }
        : this.target();
      this.expectOperator(")");
      return inside;
    }
    const { following } = this;
    if (this.current.type === "name" && !CONSTANTS.has(this.current.value)) {
      const name = this.expectName();
      if (!members || following.type !== "operator" || following.value !== ".") {
        return { kind: "name", name, line };
      }
      this.advance();
      return { kind: "member", name, member: this.expectName(), line };
    }
    this.unexpected("a name to assign to");
  }
}
