/**
 * The metadata of one architecture, whose keys begin with its name.
 *
 * @module
 */

import type { Metadata } from "./metadata.ts";

/** The shortest decimal that is the same number as f32, to which what is in the file was rounded. */
export function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === Math.fround(value)) return short;
  }
  return value;
}

/** The metadata of one architecture. */
export class ArchitectureKeys {
  constructor(readonly metadata: Metadata, readonly architecture: string) {}

  key(name: string): string {
    return `${this.architecture}.${name}`;
  }

  /** A whole number that has to be there. */
  count(name: string, most: number): number {
    const count = this.metadata.count(this.key(name), most);
    return count ?? this.metadata.fail(this.key(name), `a whole number from 1 to ${most}`);
  }

  optional(name: string, most: number, least = 1): number | undefined {
    return this.metadata.count(this.key(name), most, least);
  }

  number(name: string): number | undefined {
    const value = this.metadata.number(this.key(name));
    return value === undefined ? undefined : shortest(value);
  }

  /**
   * Whether each layer has a window: a list that says it, or every how many layers one has none, the last of them. Undefined
   * where there is no such key.
   */
  windows(name: string, layers: number): boolean[] | undefined {
    const key = this.key(name);
    if (!this.metadata.has(key)) return undefined;
    if (!this.metadata.isList(key)) {
      const period = this.metadata.count(key, layers, 0) ?? 0;
      return Array.from({ length: layers }, (_, i) => period === 0 || (i + 1) % period !== 0);
    }
    const flags = this.metadata.flags(key);
    if (flags?.length === layers) return flags;
    return this.metadata.fail(key, `one for each of ${layers} layers`);
  }

  /** Refuses a key unless it is absent or says what is computed anyway. */
  expect(name: string, values: readonly unknown[]): void {
    const key = this.key(name);
    if (!this.metadata.has(key) || values.some((value) => this.metadata.is(key, value))) return;
    this.metadata.fail(key, `${values.map(String).join(" or ")}: nothing else is supported`);
  }
}
