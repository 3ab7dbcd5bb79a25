/**
 * Arguments of functions, methods, filters and tests, as Python takes them.
 *
 * @module
 */
import { fail } from "./errors.ts";
import { asIndex } from "./integers.ts";
import { Text } from "./text.ts";
import { type Arguments, typeName, Undefined, type Value } from "./values.ts";

/** Of a call without any. */
export const NO_ARGUMENTS: Arguments = { positional: [], named: new Map() };

/**
 * The values of parameters, given by position or by name.
 *
 * @param defaults Values of the parameters that may be left out.
 * @throws TemplateError where one is missing, or there is one too many.
 */
export function bind<Name extends string>(
  called: string,
  { positional, named }: Arguments,
  parameters: readonly Name[],
  defaults: Partial<Record<NoInfer<Name>, Value>> = {},
): Record<Name, Value> {
  if (positional.length > parameters.length) {
    fail(
      `${called} takes at most ${parameters.length} arguments, ${positional.length} were given`,
    );
  }
  const names: readonly string[] = parameters;
  for (const name of named.keys()) {
    const place = names.indexOf(name);
    if (place < 0) fail(`${called} has no argument '${name}'`);
    if (place < positional.length) fail(`${called} is given '${name}' twice`);
  }
  const values = parameters.map((name, i) => {
    // None is a value, too: it takes no default.
    const given = i < positional.length ? positional[i] : named.get(name);
    const value = given === undefined ? defaults[name] : given;
    if (value === undefined) fail(`${called} needs an argument '${name}'`);
    return [name, value];
  });
  return Object.fromEntries(values);
}

/** The values of parameters that have no names. */
export function unnamed(called: string, args: Arguments, least: number, most = least): Value[] {
  const { positional, named } = args;
  if (named.size > 0) fail(`${called} takes no arguments by name`);
  if (positional.length < least || positional.length > most) {
    const expected = least === most ? least : `${least} to ${most}`;
    fail(`${called} takes ${expected} arguments, ${positional.length} were given`);
  }
  return [...positional];
}

/** A string, or an error that names what was called. */
export function asText(called: string, value: Value): Text {
  if (value instanceof Text) return value;
  if (value instanceof Undefined) value.fail();
  fail(`${called}: expected a string, got '${typeName(value)}'`);
}

/** An index that may be None. */
export function optionalIndex(value: Value | undefined): number | undefined {
  return value === null || value === undefined ? undefined : asIndex(value);
}
