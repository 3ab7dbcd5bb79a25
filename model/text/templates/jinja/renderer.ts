/**
 * What statements write.
 *
 * @module
 */
import type { Environment } from "./environment.ts";
import { Evaluator } from "./evaluator.ts";
import { fail } from "./errors.ts";
import { Namespace } from "./globals.ts";
import { Loop } from "./loop.ts";
import { MacroValue } from "./macro.ts";
import type { Body, Expression, Macro, Statement, Target } from "./nodes.ts";
import { str } from "./repr.ts";
import type { Scope } from "./scope.ts";
import { EMPTY, Text } from "./text.ts";
import {
  iterate,
  iteratorOf,
  lengthOf,
  text,
  truth,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

/** How statements end: with the last of them, or leaving a loop or its turn. */
type Ending = "done" | "break" | "continue";

type For = Extract<Statement, { kind: "for" }>;

/** How deep macros may call each other, and recursive loops themselves. */
const MAX_CALLS = 150;

/** Renders statements. */
export class Renderer extends Evaluator {
  #calls = 0;

  /** @param messages Numbers of the messages, which tell what is written while a loop is at one. */
  constructor(environment: Environment, readonly messages: ReadonlyMap<Value, number>) {
    super(environment);
  }

  /** Statements that write to `out`. */
  run(statements: readonly Statement[], scope: Scope, out: Text[]): Ending {
    for (const statement of statements) {
      const ending = this.#statement(statement, scope, out);
      if (ending !== "done") return ending;
    }
    return "done";
  }

  /** What a part with variables of its own writes. */
  #written(body: Body, scope: Scope): Text {
    const out: Text[] = [];
    this.run(body.statements, scope.enter(body.locals), out);
    return Text.concat(out);
  }

  #statement(node: Statement, scope: Scope, out: Text[]): Ending {
    this.step(node.line);
    switch (node.kind) {
      case "text":
        out.push(text(node.value));
        return "done";
      case "output":
        out.push(str(this.evaluate(node.value, scope)));
        return "done";
      case "if": {
        const branch = node.branches.find(({ test }) => truth(this.evaluate(test, scope)));
        return this.run(branch ? branch.statements : node.otherwise, scope, out);
      }
      case "for":
        out.push(this.#loop(node, this.evaluate(node.iterable, scope), scope, 0));
        return "done";
      case "set":
        this.#assign(node.target, this.evaluate(node.value, scope), scope);
        return "done";
      case "setBlock": {
        const written = this.#written(node.body, scope);
        const value = node.filter ? this.evaluate(node.filter, scope, written) : written;
        this.#assign(node.target, value, scope);
        return "done";
      }
      case "with": {
        const values = node.assignments.map(({ value }) => this.evaluate(value, scope));
        const inner = scope.enter(node.body.locals);
        node.assignments.forEach(({ target }, i) => this.#assign(target, values[i], inner));
        return this.run(node.body.statements, inner, out);
      }
      case "macro":
        scope.set(node.name, this.#macro(node, scope));
        return "done";
      case "callBlock": {
        const { call } = node;
        if (call.kind !== "call") fail("expected a call");
        const caller = this.#macro(node.macro, scope);
        out.push(str(this.call(call, scope, [["caller", caller]])));
        return "done";
      }
      case "filterBlock": {
        const inner = scope.enter(node.body.locals), written: Text[] = [];
        this.run(node.body.statements, inner, written);
        out.push(str(this.evaluate(node.filter, inner, Text.concat(written))));
        return "done";
      }
      case "generation":
        out.push(
          this.#written(node.body, scope).from((origin) => ({ ...origin, generated: true })),
        );
        return "done";
      case "scope":
        return this.run(node.body.statements, scope.enter(node.body.locals), out);
      case "block":
        out.push(this.#written(node.body, node.scoped ? scope : outermost(scope)));
        return "done";
      case "break":
      case "continue":
        return node.kind;
    }
  }

  #assign(target: Target, value: Value, scope: Scope): void {
    if (target.kind === "name") return scope.set(target.name, value);
    if (target.kind === "member") {
      const namespace = scope.get(target.name);
      if (!(namespace instanceof Namespace)) {
        fail("cannot assign attribute on non-namespace object", target.line);
      }
      return namespace.set(target.member, value);
    }
    if (iteratorOf(value) === undefined) {
      fail(`cannot unpack non-iterable ${typeName(value)} object`, target.line);
    }
    const wanted = target.items.length, items: Value[] = [];
    for (const item of iterate(value)) {
      if (items.length === wanted) {
        fail(`too many values to unpack (expected ${wanted})`, target.line);
      }
      items.push(item);
    }
    if (items.length < wanted) {
      fail(`not enough values to unpack (expected ${wanted}, got ${items.length})`, target.line);
    }
    target.items.forEach((item, i) => this.#assign(item, items[i], scope));
  }

  /** Guards what can call itself. */
  #nested<T>(run: () => T): T {
    if (++this.#calls > MAX_CALLS) fail(`macros call each other more than ${MAX_CALLS} deep`);
    const result = run();
    this.#calls--;
    return result;
  }

  *#selected(items: Iterable<Value>, node: For, test: Expression, scope: Scope): Generator<Value> {
    for (const item of items) {
      this.step(node.line);
      const inner = scope.enter([]);
      this.#assign(node.target, item, inner);
      if (truth(this.evaluate(test, inner))) yield item;
    }
  }

  #loop(node: For, iterable: Value, scope: Scope, depth: number): Text {
    const { body, otherwise, test } = node, out: Text[] = [];
    const items = iterate(iterable);
    const recurse = node.recursive
      ? (inner: Value, deeper: number): Value =>
        this.#nested(() => this.#loop(node, inner, scope, deeper))
      : undefined;
    const loop = test
      ? new Loop(this.#selected(items, node, test, scope), undefined, depth, recurse)
      : new Loop(items, lengthOf(iterable), depth, recurse);
    let ran = false;
    while (loop.advance()) {
      this.step(node.line);
      const inner = scope.enter(body.locals);
      inner.set("loop", loop);
      this.#assign(node.target, loop.current, inner);
      const message = this.messages.get(loop.current);
      const turn: Text[] = message === undefined ? out : [];
      const ending = this.run(body.statements, inner, turn);
      if (message !== undefined) {
        out.push(Text.concat(turn).from((origin) => ({ during: message, ...origin })));
      }
      // As in Jinja2, a turn that is left early does not count for `else`.
      if (ending === "break") break;
      if (ending === "done") ran = true;
    }
    if (!ran) this.run(otherwise.statements, scope.enter(otherwise.locals), out);
    return Text.concat(out);
  }

  #macro(node: Macro, scope: Scope): MacroValue {
    const { signature: { names, defaults }, body } = node;
    return new MacroValue(node, (variables) =>
      this.#nested(() => {
        const { line } = this;
        const inner = scope.enter(body.locals), out: Text[] = [];
        for (const [name, value] of variables) {
          const missing = new Undefined(`parameter '${name}' was not provided`);
          inner.set(name, value === undefined ? missing : value);
        }
        defaults.forEach((value, i) => {
          const name = names[names.length - defaults.length + i];
          if (variables.get(name) === undefined) inner.set(name, this.evaluate(value, inner));
        });
        this.run(body.statements, inner, out);
        this.line = line;
        return out.length === 0 ? EMPTY : Text.concat(out);
      }));
  }
}

function outermost(scope: Scope): Scope {
  let outer = scope;
  while (outer.parent !== undefined) outer = outer.parent;
  return outer;
}
