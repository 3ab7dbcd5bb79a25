/**
 * Variables while a template is rendered.
 *
 * @module
 */
import type { Body } from "./nodes.ts";
import { Undefined, type Value } from "./values.ts";

/** Variables of one part of a template, inside those of the parts around it. */
export class Scope {
  /** null as a name's value in the map is None; undefined is a name that isn't set yet. */
  readonly #variables = new Map<string, Value | undefined>();

  /** @param given What the template was given, and the functions it can always use. */
  constructor(
    readonly given: ReadonlyMap<string, Value>,
    readonly parent: Scope | undefined,
  ) {}

  /** The variables of a part inside this one, as they are where it begins. */
  enter(locals: Body["locals"]): Scope {
    const inner = new Scope(this.given, this);
    inner.begin(locals);
    return inner;
  }

  /** Sets the part's own names as they are where it begins. */
  begin(locals: Body["locals"]): void {
    for (const { name, outer } of locals) {
      this.#variables.set(name, outer ? this.#outer(name) : undefined);
    }
  }

  #outer(name: string): Value | undefined {
    return this.parent === undefined ? this.given.get(name) : this.parent.find(name);
  }

  find(name: string): Value | undefined {
    return this.#variables.has(name) ? this.#variables.get(name) : this.#outer(name);
  }

  get(name: string): Value {
    const value = this.find(name);
    return value === undefined ? new Undefined(`'${name}' is undefined`) : value;
  }

  set(name: string, value: Value): void {
    this.#variables.set(name, value);
  }
}
