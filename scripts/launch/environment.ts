/**
 * The environment of the program to be started: the launch's own, with changes on top.
 *
 * @module
 */
import type { System } from "./system.ts";

/** Environment variables and the changes that the shell has to make. */
export class Environment {
  /** New values by name; undefined where the variable is to be unset. */
  readonly changes: Map<string, string | undefined> = new Map();

  constructor(private readonly system: Pick<System, "env">) {}

  /** A variable's value; undefined where it is unset or empty. */
  get(name: string): string | undefined {
    return this.changes.has(name) ? this.changes.get(name) : this.system.env(name);
  }

  set(name: string, value: string): void {
    this.changes.set(name, value);
  }

  /** Sets a variable that has no value yet. */
  setDefault(name: string, value: string): void {
    if (this.get(name) === undefined) this.set(name, value);
  }

  unset(name: string): void {
    this.changes.set(name, undefined);
  }

  /** Gives the value of `from` to `to` and unsets `from`, where it has one. */
  rename(from: string, to: string): void {
    const value = this.get(from);
    if (value === undefined) return;
    this.set(to, value);
    this.unset(from);
  }
}
