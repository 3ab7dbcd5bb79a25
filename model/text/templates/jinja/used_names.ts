/**
 * Names that parts of a template use.
 *
 * @module
 */
import type { CallArguments, Expression, Statement, Target } from "./nodes.ts";

function argumentExpressions(args: CallArguments): Expression[] {
  const all = [...args.positional, ...args.named.map(({ value }) => value)];
  if (args.spread) all.push(args.spread);
  if (args.namedSpread) all.push(args.namedSpread);
  return all;
}

/** The expressions that an expression is made of. */
export function operandsOf(node: Expression): Expression[] {
  const given = (...all: (Expression | undefined)[]) => all.filter((one) => one !== undefined);
  switch (node.kind) {
    case "constant":
    case "name":
      return [];
    case "list":
    case "tuple":
      return node.items;
    case "dict":
      return node.items.flat();
    case "attribute":
      return [node.object];
    case "item":
      return [node.object, node.key];
    case "slice":
      return given(node.object, node.start, node.stop, node.step);
    case "call":
      return [node.callee, ...argumentExpressions(node.args)];
    case "filter":
    case "test":
      return given(node.input, ...argumentExpressions(node.args));
    case "not":
    case "negative":
    case "positive":
      return [node.operand];
    case "binary":
    case "and":
    case "or":
      return [node.left, node.right];
    case "concat":
      return node.parts;
    case "compare":
      return [node.first, ...node.rest.map(({ operand }) => operand)];
    case "if":
      return given(node.test, node.then, node.otherwise);
  }
}

/** Those of `names` that statements, or what is inside them, read before they set them. */
export function usedNames(statements: readonly Statement[], names: readonly string[]): Set<string> {
  const watched = new Set(names), used = new Set<string>();
  const read = (node: Expression | undefined): void => {
    if (node === undefined) return;
    if (node.kind === "name" && watched.has(node.name)) used.add(node.name);
    operandsOf(node).forEach(read);
  };
  const write = (target: Target): void => {
    if (target.kind === "tuple") target.items.forEach(write);
    else if (target.kind === "name") watched.delete(target.name);
  };
  const visit = (node: Statement): void => {
    switch (node.kind) {
      case "output":
        read(node.value);
        break;
      case "if":
        for (const { test, statements } of node.branches) {
          read(test);
          statements.forEach(visit);
        }
        node.otherwise.forEach(visit);
        break;
      case "for":
        write(node.target);
        read(node.iterable);
        node.body.statements.forEach(visit);
        node.otherwise.statements.forEach(visit);
        read(node.test);
        break;
      case "set":
        write(node.target);
        read(node.value);
        break;
      case "setBlock":
        write(node.target);
        read(node.filter);
        node.body.statements.forEach(visit);
        break;
      case "with":
        for (const { target } of node.assignments) write(target);
        for (const { value } of node.assignments) read(value);
        node.body.statements.forEach(visit);
        break;
      case "macro":
        node.signature.names.forEach((name) => watched.delete(name));
        node.signature.defaults.forEach(read);
        node.body.statements.forEach(visit);
        break;
      case "callBlock":
        read(node.call);
        visit(node.macro);
        break;
      case "filterBlock":
        node.body.statements.forEach(visit);
        read(node.filter);
        break;
      case "generation":
      case "scope":
        node.body.statements.forEach(visit);
        break;
      default:
    }
  };
  statements.forEach(visit);
  return used;
}
