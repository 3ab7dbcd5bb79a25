/**
 * Macros as values.
 *
 * @module
 */
import { fail } from "./errors.ts";
import type { Macro } from "./nodes.ts";
import { type Arguments, Dict, text, Thing, Tuple, Undefined, type Value } from "./values.ts";

/** What a call of a macro gives its body: undefined where a parameter is left out. */
export type MacroVariables = Map<string, Value | undefined>;

/** A macro where it was defined. */
export class MacroValue extends Thing {
  readonly type = "Macro";

  /** @param run Renders the body. */
  constructor(readonly node: Macro, readonly run: (variables: MacroVariables) => Value) {
    super();
  }

  override get callable(): boolean {
    return true;
  }

  override attribute(name: string): Value | undefined {
    const { uses, signature } = this.node;
    switch (name) {
      case "name":
        return text(this.node.name);
      case "arguments":
        return new Tuple(signature.names.map(text));
      case "catch_kwargs":
        return uses.has("kwargs");
      case "catch_varargs":
        return uses.has("varargs");
      case "caller":
        return uses.has("caller");
      default:
        return undefined;
    }
  }

  override call({ positional, named }: Arguments): Value {
    const { name, signature: { names }, uses } = this.node;
    const rest = new Map(named), variables: MacroVariables = new Map();
    names.forEach((parameter, i) => {
      if (i < positional.length) return variables.set(parameter, positional[i]);
      variables.set(parameter, rest.get(parameter));
      rest.delete(parameter);
    });
    if (uses.has("caller") && !names.includes("caller")) {
      variables.set("caller", rest.get("caller") ?? new Undefined("No caller defined"));
      rest.delete("caller");
    }
    if (uses.has("kwargs")) {
      variables.set("kwargs", new Dict([...rest].map(([key, value]) => [text(key), value])));
    } else if (rest.size > 0) {
      fail(`macro '${name}' takes no keyword argument '${[...rest.keys()][0]}'`);
    }
    if (uses.has("varargs")) {
      variables.set("varargs", new Tuple(positional.slice(names.length)));
    } else if (positional.length > names.length) {
      fail(`macro '${name}' takes not more than ${names.length} argument(s)`);
    }
    return this.run(variables);
  }

  override describe(): string {
    return `<Macro '${this.node.name}'>`;
  }
}
