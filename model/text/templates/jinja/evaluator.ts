/**
 * What expressions are worth.
 *
 * @module
 */
import { NO_ARGUMENTS } from "./arguments.ts";
import { getAttribute, getItem, getSlice } from "./attributes.ts";
import { contains, equal, ordered } from "./compare.ts";
import type { Environment } from "./environment.ts";
import { spend } from "./budget.ts";
import { fail } from "./errors.ts";
import type { CallArguments, Comparison, Expression } from "./nodes.ts";
import { binary, signed } from "./numbers.ts";
import { str } from "./repr.ts";
import type { Scope } from "./scope.ts";
import { Text } from "./text.ts";
import {
  type Arguments,
  Dict,
  iterate,
  List,
  sizeOf,
  Thing,
  truth,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

/** Units of work of evaluating a part. */
const STEP_UNITS = 50;
/** The most parts of templates that are evaluated for one conversation. */
const MAX_STEPS = 10_000_000;

function compare(operator: Comparison, left: Value, right: Value): boolean {
  switch (operator) {
    case "==":
      return equal(left, right);
    case "!=":
      return !equal(left, right);
    case "in":
      return contains(right, left);
    case "not in":
      return !contains(right, left);
    default:
      return ordered(operator, left, right);
  }
}

/** Evaluates expressions. */
export class Evaluator {
  /** Line of what was evaluated last, for messages. */
  line = 1;
  #steps = 0;

  constructor(readonly environment: Environment) {}

  /** Counts a step, so that no template goes on for ever. */
  step(line: number): void {
    this.line = line;
    spend(STEP_UNITS);
    if (++this.#steps > MAX_STEPS) fail(`the template takes more than ${MAX_STEPS} steps`);
  }

  /** @param input What stands for the input of a filter that has none. */
  evaluate(node: Expression, scope: Scope, input?: Value): Value {
    this.step(node.line);
    switch (node.kind) {
      case "constant":
        return node.value;
      case "name":
        return scope.get(node.name);
      case "list":
        return new List(node.items.map((item) => this.evaluate(item, scope)));
      case "tuple":
        return new Tuple(node.items.map((item) => this.evaluate(item, scope)));
      case "dict":
        return new Dict(
          node.items.map(([key, value]) =>
            [this.evaluate(key, scope), this.evaluate(value, scope)] as const
          ),
        );
      case "attribute": {
        // Methods of texts look through them.
        const object = this.evaluate(node.object, scope);
        if (object instanceof Text) spend(sizeOf(object));
        return getAttribute(object, node.name);
      }
      case "item":
        return getItem(this.evaluate(node.object, scope), this.evaluate(node.key, scope));
      case "slice": {
        const object = this.evaluate(node.object, scope);
        const bounds = [node.start, node.stop, node.step].map((bound) =>
          bound && this.evaluate(bound, scope)
        );
        return getSlice(object, bounds);
      }
      case "call":
        return this.call(node, scope);
      case "filter": {
        const value = node.input ? this.evaluate(node.input, scope, input) : input ?? null;
        const args = this.arguments(node.args, scope);
        this.line = node.line;
        spend(sizeOf(value));
        return this.environment.filter(node.name, value, args);
      }
      case "test": {
        const value = this.evaluate(node.input, scope), args = this.arguments(node.args, scope);
        this.line = node.line;
        return this.environment.test(node.name, value, args) !== node.negated;
      }
      case "not":
        return !truth(this.evaluate(node.operand, scope));
      case "negative":
        return signed("-", this.evaluate(node.operand, scope));
      case "positive":
        return signed("+", this.evaluate(node.operand, scope));
      case "binary": {
        const left = this.evaluate(node.left, scope), right = this.evaluate(node.right, scope);
        this.line = node.line;
        return binary(node.operator, left, right);
      }
      case "and": {
        const left = this.evaluate(node.left, scope);
        return truth(left) ? this.evaluate(node.right, scope) : left;
      }
      case "or": {
        const left = this.evaluate(node.left, scope);
        return truth(left) ? left : this.evaluate(node.right, scope);
      }
      case "concat":
        return Text.concat(node.parts.map((part) => str(this.evaluate(part, scope))));
      case "compare": {
        let left = this.evaluate(node.first, scope);
        for (const { operator, operand } of node.rest) {
          const right = this.evaluate(operand, scope);
          if (operator.endsWith("in")) spend(sizeOf(right));
          if (!compare(operator, left, right)) return false;
          left = right;
        }
        return true;
      }
      case "if":
        if (truth(this.evaluate(node.test, scope))) return this.evaluate(node.then, scope);
        return node.otherwise
          ? this.evaluate(node.otherwise, scope)
          : new Undefined("the inline if-expression evaluated to false and no else is defined.");
    }
  }

  /** @param more Arguments by name that the template does not write. */
  call(
    node: Extract<Expression, { kind: "call" }>,
    scope: Scope,
    more: readonly (readonly [string, Value])[] = [],
  ): Value {
    const callee = this.evaluate(node.callee, scope);
    const args = this.arguments(node.args, scope, more);
    this.line = node.line;
    if (callee instanceof Undefined) callee.fail();
    if (!(callee instanceof Thing)) fail(`'${typeName(callee)}' object is not callable`);
    return callee.call(args);
  }

  arguments(
    { positional, named, spread, namedSpread }: CallArguments,
    scope: Scope,
    more: readonly (readonly [string, Value])[] = [],
  ): Arguments {
    if (
      positional.length === 0 && named.length === 0 && more.length === 0 && !spread && !namedSpread
    ) return NO_ARGUMENTS;
    const values = positional.map((value) => this.evaluate(value, scope));
    const byName = new Map<string, Value>();
    const set = (name: string, value: Value) => {
      if (byName.has(name)) fail(`argument '${name}' is given twice`);
      byName.set(name, value);
    };
    for (const { name, value } of named) set(name, this.evaluate(value, scope));
    for (const [name, value] of more) set(name, value);
    if (spread) values.push(...iterate(this.evaluate(spread, scope)));
    if (namedSpread) {
      const dict = this.evaluate(namedSpread, scope);
      if (!(dict instanceof Dict)) fail(`argument after ** is '${typeName(dict)}', not a mapping`);
      for (const [key, value] of dict.items()) {
        if (!(key instanceof Text)) fail("keywords must be strings");
        set(key.value, value);
      }
    }
    return { positional: values, named: byName };
  }
}
