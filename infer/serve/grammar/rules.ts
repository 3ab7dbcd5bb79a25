/**
 * The rules of a grammar, as they are written.
 *
 * @module
 */
import { type Language, languageRules, textOf, TooLarge } from "./automaton.ts";

/** Rules of a grammar at most, and characters of all: others' answers wait while it is compiled (masks.ts). */
const MOST_RULES = 1000, LONGEST = 100_000;

/** Writes rules. */
export class Rules {
  readonly #bodies = new Map<string, string>();
  #length = 0;
  /** Languages of rules that have one. */
  readonly #languages = new Map<string, Language>([
    ["null", textOf("null")],
    ["boolean", { kind: "union", parts: [textOf("true"), textOf("false")] }],
  ]);

  /** @param fail Refuses what is at a path in the schema. */
  constructor(readonly fail: (path: string, problem: string) => never) {}

  /** All rules in EBNF, a line each. */
  get lines(): string[] {
    return Array.from(this.#bodies, ([name, body]) => `${name} ::= ${body}`);
  }

  /** Writes a rule of a name that was given before. */
  set(name: string, body: string): void {
    this.#length += body.length;
    if (this.#bodies.size >= MOST_RULES || this.#length > LONGEST) {
      this.fail(
        "",
        "the schema is too large for a grammar; expected fewer properties, alternatives and values, or shorter ones",
      );
    }
    this.#bodies.set(name, body);
  }

  /** Writes a rule; returns its name. */
  add(body: string): string {
    const name = `r${this.#bodies.size}`;
    this.set(name, body);
    return name;
  }

  /** Writes the rules of a language; returns the name of the one that has all of it. */
  addLanguage(language: Language, path: string): string {
    try {
      const rules = languageRules(language, `a${this.#languages.size}`), [[first]] = rules;
      for (const [name, body] of rules) this.set(name, body);
      this.#languages.set(first, language);
      return first;
    } catch (error) {
      if (!(error instanceof TooLarge)) throw error;
      this.fail(path, "is too large");
    }
  }

  /** One of several values, by their names: those that have languages become one language. */
  addUnion(values: readonly string[], path: string): string {
    if (values.length === 1) return values[0];
    const parts = values.flatMap((value) => this.#languages.get(value) ?? []);
    if (parts.length < 2) return this.add(values.join(" | "));
    const regular = this.addLanguage({ kind: "union", parts }, path);
    const others = values.filter((value) => !this.#languages.has(value));
    return others.length === 0 ? regular : this.add([...others, regular].join(" | "));
  }

  /** Refuses rules that may be nothing but themselves, as a union with a reference back to it. */
  refuseCircles(): void {
    const open = new Set<string>(), done = new Set<string>();
    const visit = (name: string) => {
      if (open.has(name)) this.fail("", "a schema refers to itself without anything around it");
      if (done.has(name)) return;
      open.add(name);
      for (const alternative of this.#bodies.get(name)?.split(" | ") ?? []) {
        if (this.#bodies.has(alternative)) visit(alternative);
      }
      open.delete(name);
      done.add(name);
    };
    for (const name of this.#bodies.keys()) visit(name);
  }
}
