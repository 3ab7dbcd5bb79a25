/**
 * Jinja2's expressions, from tokens to a tree: operators and how they bind.
 *
 * @module
 */
import type { BinaryOperator, Comparison, Expression } from "./nodes.ts";
import { OperandParser } from "./operands.ts";

const COMPARISONS: readonly string[] = ["==", "!=", "<", "<=", ">", ">="];

/** Reads expressions. */
export class ExpressionParser extends OperandParser {
  /** An expression, with `a if b else c` where `conditional`. */
  override expression(conditional = true): Expression {
    return this.nested(() => conditional ? this.#conditional() : this.#or());
  }

  #conditional(): Expression {
    let { line } = this.current;
    let then = this.#or();
    while (this.skipName("if")) {
      const test = this.#or();
      const otherwise = this.skipName("else") ? this.expression() : undefined;
      then = { kind: "if", test, then, otherwise, line };
      line = this.current.line;
    }
    return then;
  }

  #or(): Expression {
    let { line } = this.current;
    let left = this.#and();
    while (this.skipName("or")) {
      left = { kind: "or", left, right: this.#and(), line };
      line = this.current.line;
    }
    return left;
  }

  #and(): Expression {
    let { line } = this.current;
    let left = this.#not();
    while (this.skipName("and")) {
      left = { kind: "and", left, right: this.#not(), line };
      line = this.current.line;
    }
    return left;
  }

  #not(): Expression {
    const { line } = this.current;
    if (!this.skipName("not")) return this.#compare();
    return { kind: "not", operand: this.nested(() => this.#not()), line };
  }

  #comparison(): Comparison | undefined {
    if (this.current.type === "operator" && COMPARISONS.includes(this.current.value)) {
      return this.advance().value as Comparison;
    }
    if (this.skipName("in")) return "in";
    const { following } = this;
    if (this.isName("not") && following.type === "name" && following.value === "in") {
      this.advance();
      this.advance();
      return "not in";
    }
    return undefined;
  }

  #compare(): Expression {
    const { line } = this.current;
    const first = this.#sum();
    const rest: { operator: Comparison; operand: Expression }[] = [];
    for (let operator = this.#comparison(); operator; operator = this.#comparison()) {
      rest.push({ operator, operand: this.#sum() });
    }
    return rest.length === 0 ? first : { kind: "compare", first, rest, line };
  }

  /** Operands with any of the operators between them, from left to right. */
  #binary(operators: readonly BinaryOperator[], operand: () => Expression): Expression {
    let { line } = this.current;
    let left = operand();
    for (;;) {
      const operator = operators.find((operator) => this.isOperator(operator));
      if (operator === undefined) return left;
      this.advance();
      left = { kind: "binary", operator, left, right: operand(), line };
      line = this.current.line;
    }
  }

  #sum(): Expression {
    return this.#binary(["+", "-"], () => this.#concat());
  }

  #concat(): Expression {
    const { line } = this.current;
    const parts = [this.#product()];
    while (this.skipOperator("~")) parts.push(this.#product());
    return parts.length === 1 ? parts[0] : { kind: "concat", parts, line };
  }

  #product(): Expression {
    return this.#binary(["*", "/", "//", "%"], () => this.#power());
  }

  /** Jinja2 reads 2 ** 3 ** 2 from left to right, other than Python. */
  #power(): Expression {
    return this.#binary(["**"], () => this.#unary());
  }

  #unary(filters = true): Expression {
    const { line } = this.current;
    let node: Expression;
    if (this.skipOperator("-")) {
      node = { kind: "negative", operand: this.nested(() => this.#unary(false)), line };
    } else if (this.skipOperator("+")) {
      node = { kind: "positive", operand: this.nested(() => this.#unary(false)), line };
    } else node = this.primary();
    node = this.postfix(node);
    return filters ? this.filters(node) : node;
  }
}
