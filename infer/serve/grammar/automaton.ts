/**
 * Texts of a regular language as rules in which no two alternatives begin alike.
 *
 * xgrammar 0.1.27 makes an automaton of each rule, and merges its states wrongly where alternatives both begin and end
 * alike: of `"a" | "ab" | "abb" | "ca" | "cab" | "cabb"` it takes abbb, too (https://github.com/mlc-ai/xgrammar/pull/632 and
 * 911). Deterministic rules give it nothing to merge by.
 *
 * @module
 */

/** A set of characters as bits: that of each of ASCII, and one of all others together. */
export type Symbols = bigint;

/** The bit of all characters beyond ASCII, and the bits of ASCII. */
export const BEYOND: Symbols = 1n << 128n;
const ASCII: Symbols = BEYOND - 1n;

/** A regular language. */
export type Language =
  | { readonly kind: "set"; readonly symbols: Symbols }
  | { readonly kind: "sequence" | "union"; readonly parts: readonly Language[] }
  | {
    readonly kind: "repeat";
    readonly part: Language;
    readonly least: number;
    readonly most?: number;
  };

/** States of an automaton with choice at most, and of one that is made smaller. */
const MOST_CHOICES = 50_000, MOST_MINIMIZED = 3000;
/** States in all of an automaton's that states of one without choice stand for, at most: so long it takes to make it. */
const MOST_WORK = 100_000;

/** A language is too large for rules. */
export class TooLarge extends Error {}

/** A text of ASCII. */
export function textOf(text: string): Language {
  const parts = Array.from(
    text,
    (one): Language => ({ kind: "set", symbols: 1n << BigInt(one.charCodeAt(0)) }),
  );
  return { kind: "sequence", parts };
}

/** An automaton with edges of nothing. State 0 is its first, 1 its last. */
class Nondeterministic {
  readonly edges: [symbols: Symbols, to: number][][] = [[], []];
  readonly free: number[][] = [[], []];

  constructor(language: Language) {
    this.free[this.#add(language, 0)].push(1);
  }

  #state(): number {
    if (this.edges.push([]) > MOST_CHOICES) throw new TooLarge();
    return this.free.push([]) - 1;
  }

  /** Adds a language after a state; returns where it ends. */
  #add(language: Language, from: number): number {
    switch (language.kind) {
      case "set": {
        const to = this.#state();
        this.edges[from].push([language.symbols, to]);
        return to;
      }
      case "sequence":
        return language.parts.reduce((at, part) => this.#add(part, at), from);
      case "union": {
        const to = this.#state();
        for (const part of language.parts) {
          const begin = this.#state();
          this.free[from].push(begin);
          this.free[this.#add(part, begin)].push(to);
        }
        return to;
      }
      case "repeat":
        return this.#repeat(language, from);
    }
  }

  #repeat({ part, least, most }: Language & { kind: "repeat" }, from: number): number {
    let at = from;
    for (let i = 0; i < least; i++) at = this.#add(part, at);
    const end = this.#state();
    if (most === undefined) {
      const begin = this.#state();
      this.free[at].push(begin);
      this.free[this.#add(part, begin)].push(begin);
      this.free[begin].push(end);
      return end;
    }
    this.free[at].push(end);
    for (let i = least; i < most; i++) {
      const begin = this.#state();
      this.free[at].push(begin);
      at = this.#add(part, begin);
      this.free[at].push(end);
    }
    return end;
  }

  /** States that are reached by nothing, in ascending order. */
  closure(states: Iterable<number>): number[] {
    const all = new Set(states);
    for (const state of all) this.free[state].forEach((to) => all.add(to));
    return [...all].sort((a, b) => a - b);
  }
}

/** A state without choice: where symbols lead, and whether a text may end there. */
interface State {
  readonly to: ReadonlyMap<number, Symbols>;
  readonly isEnd: boolean;
}

/** The symbols of edges in groups that lead to the same places. */
function groupsOf(edges: readonly (readonly [Symbols, number])[]): [Symbols, number[]][] {
  let groups: [Symbols, number[]][] = [];
  for (const [symbols, to] of edges) {
    let left = symbols;
    groups = groups.flatMap(([group, all]): [Symbols, number[]][] => {
      const both = group & left;
      left &= ~group;
      if (both === 0n) return [[group, all]];
      const rest = group & ~both;
      return [[both, [...all, to]], ...(rest === 0n ? [] : [[rest, all] as [Symbols, number[]]])];
    });
    if (left !== 0n) groups.push([left, [to]]);
  }
  return groups;
}

/** The texts of a language that is nothing but several texts, as the symbols of each. */
function listedTexts(language: Language): Symbols[][] | undefined {
  const texts = (language.kind === "union" ? language.parts : []).map((part) => {
    const symbols = (part.kind === "sequence" ? part.parts : []).flatMap((one) =>
      one.kind === "set" && (one.symbols & (one.symbols - 1n)) === 0n ? [one.symbols] : []
    );
    return part.kind === "sequence" && symbols.length === part.parts.length ? symbols : undefined;
  });
  return texts.length > 0 && texts.every((text) => text !== undefined) ? texts : undefined;
}

/** The automaton of texts: a tree. */
function treeOf(texts: readonly (readonly Symbols[])[]): State[] {
  const states = [{ next: new Map<Symbols, number>(), isEnd: false }];
  for (const text of texts) {
    let at = 0;
    for (const symbol of text) {
      const known = states[at].next.get(symbol);
      const next = known ?? states.push({ next: new Map(), isEnd: false }) - 1;
      if (states.length > MOST_WORK) throw new TooLarge();
      states[at].next.set(symbol, next);
      at = next;
    }
    states[at].isEnd = true;
  }
  return states.map(({ next, isEnd }) => {
    return { to: new Map(Array.from(next, ([symbol, state]) => [state, symbol])), isEnd };
  });
}

/** The same language without choice; state 0 is the first. */
function deterministic(language: Language): State[] {
  const texts = listedTexts(language);
  if (texts !== undefined) return treeOf(texts);
  const all = new Nondeterministic(language), first = all.closure([0]);
  const known = new Map([[first.join(), 0]]), subsets = [first], states: State[] = [];
  let work = 0;
  for (const subset of subsets) {
    work += subset.length;
    if (work > MOST_WORK) throw new TooLarge();
    const to = new Map<number, Symbols>();
    for (const [symbols, places] of groupsOf(subset.flatMap((state) => all.edges[state]))) {
      const next = all.closure(places), key = next.join();
      const id = known.get(key) ?? subsets.push(next) - 1;
      known.set(key, id);
      to.set(id, (to.get(id) ?? 0n) | symbols);
    }
    states.push({ to, isEnd: subset.includes(1) });
  }
  return states;
}

/** The same automaton with states merged from which the same texts follow (Moore's algorithm). */
function minimal(states: readonly State[]): readonly State[] {
  if (states.length > MOST_MINIMIZED) return states;
  // Sets are many bits: their numbers are compared.
  const numbers = new Map<Symbols, number>();
  const numberOf = (symbols: Symbols) => {
    const number = numbers.get(symbols) ?? numbers.size;
    numbers.set(symbols, number);
    return number;
  };
  let classes: number[] = states.map(({ isEnd }) => isEnd ? 1 : 0), count = 0;
  for (;;) {
    const known = new Map<string, number>();
    const next = states.map(({ to, isEnd }) => {
      const merged = new Map<number, Symbols>();
      for (const [state, symbols] of to) {
        merged.set(classes[state], (merged.get(classes[state]) ?? 0n) | symbols);
      }
      const ways = Array.from(merged, ([state, symbols]) => `${state}:${numberOf(symbols)}`);
      const key = `${isEnd} ${ways.sort().join()}`;
      const own = known.get(key) ?? known.size;
      known.set(key, own);
      return own;
    });
    classes = next;
    if (known.size === count) break;
    count = known.size;
  }
  const merged: State[] = [];
  for (const [i, { to, isEnd }] of states.entries()) {
    const all = new Map<number, Symbols>();
    for (const [state, symbols] of to) {
      all.set(classes[state], (all.get(classes[state]) ?? 0n) | symbols);
    }
    merged[classes[i]] ??= { to: all, isEnd };
  }
  return merged;
}

/** Symbols as a class. */
function classOf(symbols: Symbols): string {
  const isNot = (symbols & BEYOND) !== 0n, named = isNot ? ~symbols & ASCII : symbols;
  let text = "";
  const hexadecimal = (code: number) => `\\x${code.toString(16).padStart(2, "0")}`;
  for (let first = 0; first < 128; first++) {
    if ((named >> BigInt(first) & 1n) === 0n) continue;
    let last = first;
    while (last < 127 && (named >> BigInt(last + 1) & 1n) === 1n) last++;
    text += first === last ? hexadecimal(first) : `${hexadecimal(first)}-${hexadecimal(last)}`;
    first = last;
  }
  return `[${isNot ? "^" : ""}${text}]`;
}

/**
 * The rules of a language, of which the first has all of it.
 *
 * @param prefix What the rules' names begin with.
 * @throws {TooLarge}
 */
export function languageRules(language: Language, prefix: string): [name: string, body: string][] {
  const states = minimal(deterministic(language)), rules: [string, string][] = [];
  const nameOf = (state: number) => `${prefix}_${state}`;
  const arrivals = states.map(() => 0);
  for (const { to } of states) for (const state of to.keys()) arrivals[state]++;
  // A state that only one other leads to, and from which only one goes on, is part of that one's rule.
  const isPassed = (state: number) => {
    const { to, isEnd } = states[state];
    return state !== 0 && !isEnd && to.size === 1 && arrivals[state] === 1 && !to.has(state);
  };
  const isLast = (state: number) => states[state].isEnd && states[state].to.size === 0;
  const classes = new Map<Symbols, string>();
  const written = (symbols: Symbols) => {
    const text = classes.get(symbols) ?? classOf(symbols);
    classes.set(symbols, text);
    return text;
  };
  const way = (symbols: Symbols, first: number): string => {
    let text = written(symbols), state = first;
    while (isPassed(state)) {
      const [[next, more]] = states[state].to;
      text += ` ${written(more)}`;
      state = next;
    }
    return isLast(state) ? text : `${text} ${nameOf(state)}`;
  };
  for (const [state, { to, isEnd }] of states.entries()) {
    if (state !== 0 && (isPassed(state) || isLast(state))) continue;
    const others = [...to].filter(([next]) => next !== state);
    const ways = [
      ...others.map(([next, symbols]) => way(symbols, next)),
      ...(isEnd ? ['""'] : []),
    ].join(" | ");
    const again = to.get(state);
    if (again === undefined) rules.push([nameOf(state), ways]);
    else {
      const rest = `${nameOf(state)}x`;
      rules.push([nameOf(state), `${written(again)}* ${rest}`], [rest, ways]);
    }
  }
  return rules;
}
