/**
 * A row of data by the names of its fields.
 *
 * @module
 */
import { UserError } from "../../../../kernels/errors.ts";
import { didYouMean } from "../../../../kernels/suggestion.ts";
import { asText, kindOf, type Value } from "../row.ts";

/** A row's fields under the names they are known by. */
export class RowFields {
  /** Names that were asked for. */
  readonly used = new Set<string>();

  /** @param where Where the row is, for messages. */
  constructor(readonly where: () => string, readonly fields: Record<string, Value>) {}

  /** Whether there is a value under this name. */
  has(name: string): boolean {
    return Object.hasOwn(this.fields, name) && this.fields[name] !== null;
  }

  /** A field's value; null where it is missing. */
  value(name: string): Value {
    this.used.add(name);
    return Object.hasOwn(this.fields, name) ? this.fields[name] : null;
  }

  /** A field's text; empty where it is missing. */
  text(name: string): string {
    const value = this.value(name), text = asText(value);
    if (value !== null && text === undefined) {
      throw this.refusal(`${name} is ${kindOf(value)}; expected text`);
    }
    return text ?? "";
  }

  /** Whether there is such a field, even without a value. */
  holds(name: string): boolean {
    return Object.hasOwn(this.fields, name);
  }

  /** The first of these names under which there is a value, else the first that there is. */
  first(...names: string[]): string | undefined {
    return names.find((name) => this.has(name)) ?? names.find((name) => this.holds(name));
  }

  /** The text to be learnt under the first of these names: it must be there, but may be empty. */
  answer(...names: string[]): string {
    const name = this.first(...names);
    if (name !== undefined) return this.text(name);
    const near = didYouMean(names[0], Object.keys(this.fields));
    throw this.refusal(`${names[0]} is missing; expected text${near}`);
  }

  /** A field's text, which must be there and not be blank. */
  required(name: string): string {
    const text = this.text(name);
    if (text.trim() !== "") return text;
    const fault = this.has(name) ? "is empty" : "is missing";
    throw this.refusal(`${name} ${fault}; expected text`);
  }

  /** What is wrong with the row, after where it is. */
  refusal(fault: string): UserError {
    return new UserError(`${this.where()}: ${fault}`);
  }
}
