/**
 * How much a schema may hold: the larger its grammar is, the longer others' answers wait while it is compiled (masks.ts).
 *
 * @module
 */

/** Values of enumerations, properties of objects, and schemas of unions at most, in all of a schema. */
const MOST = { values: 1000, properties: 300, schemas: 300 } as const;

/** Counts what a schema holds. */
export class SchemaSize {
  readonly #counts = { values: 0, properties: 0, schemas: 0 };

  /** @param fail Refuses what is at a path in the schema. */
  constructor(readonly fail: (path: string, problem: string) => never) {}

  /** Counts more of a kind, which are at a path; refuses them where they are too many. */
  add(kind: keyof typeof MOST, more: number, path: string): void {
    const all = this.#counts[kind] += more;
    if (all <= MOST[kind]) return;
    const where = kind === "schemas" ? "in all unions" : "in the whole schema";
    this.fail(path, `has too many ${kind}: ${all} ${where}; expected at most ${MOST[kind]}`);
  }
}
