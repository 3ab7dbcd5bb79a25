/**
 * Fields of a JSON object that describes a model, and the wording of what is wrong with them.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { brief } from "./json_file.ts";

/** Reads fields of one file; `null` counts as absent. */
export class Fields {
  constructor(readonly json: Record<string, unknown>, readonly file: string) {}

  /** @throws UserError that names the file, the field and its value. */
  fail(field: string, expected: string): never {
    const value = this.json[field];
    const has = value === undefined ? "is missing" : `is ${brief(value)}`;
    // An unknown name may be anything.
    const name = /^\w{1,60}$/.test(field) ? field : brief(field);
    throw new UserError(`${this.file}: ${name} ${has}, expected ${expected}`);
  }

  /** A field that is neither absent nor null. */
  has(field: string): boolean {
    return this.json[field] !== undefined && this.json[field] !== null;
  }

  count(field: string, max: number): number {
    const value = this.json[field];
    if (!Number.isSafeInteger(value) || (value as number) < 1 || (value as number) > max) {
      this.fail(field, `a whole number from 1 to ${max}`);
    }
    return value as number;
  }

  number(field: string, ok: (value: number) => boolean, expected: string): number {
    const value = this.json[field];
    if (typeof value !== "number" || !ok(value)) this.fail(field, expected);
    return value as number;
  }

  boolean(field: string, absent: boolean): boolean {
    if (!this.has(field)) return absent;
    if (typeof this.json[field] !== "boolean") this.fail(field, "true or false");
    return this.json[field] as boolean;
  }

  /** Token ids below `vocabSize`: one, or a list of several; none where the file says null or -1. */
  tokenIds(field: string, absent: number | null, vocabSize: number): number[] {
    const given = this.json[field];
    if (given === null || given === -1) return [];
    if (given === undefined && absent === null) return [];
    const ids = given === undefined ? [absent] : Array.isArray(given) ? given : [given];
    const known = (id: unknown) => Number.isSafeInteger(id) && id as number >= 0;
    if (!ids.every((id) => known(id) && (id as number) < vocabSize)) {
      const unset = given === undefined ? ` (${absent} where the file says nothing)` : "";
      this.fail(field, `a token id below vocab_size ${vocabSize}${unset}`);
    }
    return ids as number[];
  }
}
