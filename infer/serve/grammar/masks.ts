/**
 * Which tokens may come next, so that an answer is a text of a grammar.
 *
 * @module
 */
import { setTimeout } from "node:timers/promises";
import type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from "xgrammar";
import type { TokenMask } from "../../../model/engine/engine.ts";
import type { Grammar } from "./json_schema.ts";
import { grammarLibrary } from "./library.ts";
import { StringLength } from "./string_length.ts";
import { afterBytes, UTF8_STATES, type Utf8State } from "./utf8.ts";

/** A vocabulary, as grammars need it. */
export interface Vocabulary {
  /** Tokens by id as the vocabulary writes them; empty for those that are no text. */
  readonly tokens: readonly string[];
  /** How they are written: bytes as `<0x0A>` and spaces as `▁`, or as GPT-2 writes bytes, or plainly. */
  readonly kind: "byte_fallback" | "byte_level" | "raw";
  /** Tokens that end an answer. */
  readonly stop: readonly number[];
  /** Texts of tokens by id; of those that are no whole characters, empty. */
  readonly texts: readonly string[];
  /** Tokens that are no whole characters, and their bytes. */
  readonly partial: readonly (readonly [id: number, bytes: readonly number[]])[];
  /** Tokens of nothing but quotes and brackets that end values. */
  readonly closing: readonly number[];
}

/** Compiled grammars that are kept. */
const MOST_GRAMMARS = 64;
/** An answer is brought to its end from so many tokens before its limit on, or from the half of them on. */
const CLOSING_TOKENS = 256;

function words(ids: readonly number[], size: number): Uint32Array {
  const bits = new Uint32Array(Math.ceil(size / 32));
  for (const id of ids) bits[id >>> 5] |= 1 << (id & 31);
  return bits;
}

/** Words of bits that are in one and, or not, in another. */
const and = (a: Uint32Array, b: Uint32Array) => a.map((word, i) => word & b[i]);
const without = (a: Uint32Array, b: Uint32Array) => a.map((word, i) => word & ~b[i]);

/** Characters of tokens that are taken in a string that is near its most. */
const SHORT = 16;

/** Those of some tokens that are among others, or all of them where none is. */
function preferred(bits: Uint32Array, others: Uint32Array): Uint32Array {
  const both = and(bits, others);
  return both.some((word) => word !== 0) ? both : bits;
}

/** What the masks of a vocabulary share. */
interface Tables {
  readonly texts: readonly string[];
  /** Characters of a token at most. */
  readonly longest: number;
  /** Tokens of few characters, and those that end a string. */
  readonly short: Uint32Array;
  readonly quotes: Uint32Array;
  readonly closing: Uint32Array;
  readonly partial: ReadonlyMap<number, readonly number[]>;
  /** Tokens whose bytes can't follow a state. */
  readonly broken: ReadonlyMap<Utf8State, Uint32Array>;
}

function tablesOf({ tokens, texts, partial, closing }: Vocabulary): Tables {
  const bitsWhere = (is: (text: string) => boolean) =>
    words(texts.flatMap((text, id) => is(text) ? [id] : []), tokens.length);
  const broken = UTF8_STATES.map((state) => {
    const ids = partial.filter(([, bytes]) => afterBytes(state, bytes) === undefined);
    return [state, words(ids.map(([id]) => id), tokens.length)] as const;
  });
  return {
    texts,
    longest: texts.reduce((most, { length }) => Math.max(most, length), 0),
    short: bitsWhere(({ length }) => length <= SHORT),
    quotes: bitsWhere((text) => text.startsWith('"')),
    closing: words(closing, tokens.length),
    partial: new Map(partial),
    broken: new Map(broken),
  };
}

/** The mask of one answer. */
class GrammarMask implements TokenMask {
  #state: Utf8State = "start";
  readonly #string = new StringLength();

  /** @param limits Tokens of the answer, and characters of its strings, at most. */
  constructor(
    readonly matcher: GrammarMatcher,
    readonly tables: Tables,
    readonly limits: { most: number; longest: number },
  ) {}

  async allowed(left: number): Promise<Uint32Array> {
    const matched = new Uint32Array(await this.matcher.getNextTokenBitmask());
    const broken = this.tables.broken.get(this.#state);
    const bits = this.#shorten(broken === undefined ? matched : without(matched, broken));
    if (left > Math.min(CLOSING_TOKENS, this.limits.most / 2)) return bits;
    // Values end as soon as they may, so that the answer is whole.
    return preferred(bits, this.tables.closing);
  }

  /** Ends a string that is about to be too long. */
  #shorten(bits: Uint32Array): Uint32Array {
    const room = this.limits.longest - (this.#string.length ?? -Infinity);
    if (room > this.tables.longest) return bits;
    return preferred(bits, room > SHORT ? this.tables.short : this.tables.quotes);
  }

  accept(id: number): void {
    this.matcher.acceptToken(id);
    const { partial, texts } = this.tables, bytes = partial.get(id);
    if (bytes === undefined) this.#string.push(texts[id] ?? "");
    else if (this.#state === "start") this.#string.pushPart();
    this.#state = bytes === undefined ? "start" : afterBytes(this.#state, bytes) ?? "start";
  }

  [Symbol.dispose](): void {
    this.matcher.dispose();
  }
}

/** Makes masks. */
export class GrammarMasks {
  readonly #tables: Tables;
  readonly #compiler: Promise<GrammarCompiler>;
  readonly #compiled = new Map<string, Promise<CompiledGrammar>>();
  /** Ends with the last of the grammars that are being compiled. */
  #turn: Promise<unknown> = Promise.resolve();
  /** When the next one may begin, as `performance.now()` tells time. */
  #restUntil = -Infinity;

  constructor(readonly vocabulary: Vocabulary) {
    const { tokens, kind, stop } = vocabulary;
    this.#tables = tablesOf(vocabulary);
    this.#compiler = grammarLibrary().then(async ({ TokenizerInfo, GrammarCompiler }) => {
      const size = tokens.length, isSpaced = kind === "byte_fallback";
      const info = await TokenizerInfo.createTokenizerInfo([...tokens], kind, isSpaced, size, [
        ...stop,
      ]);
      return await GrammarCompiler.createGrammarCompiler(info);
    });
  }

  /**
   * A mask at the beginning of an answer.
   *
   * @param most Tokens of the answer at most.
   */
  async begin(
    { ebnf, longest = Infinity }: Grammar,
    most: number,
  ): Promise<TokenMask & Disposable> {
    const compiled = await this.#compile(ebnf);
    const { GrammarMatcher } = await grammarLibrary();
    return new GrammarMask(
      await GrammarMatcher.createGrammarMatcher(compiled),
      this.#tables,
      { most, longest },
    );
  }

  #compile(grammar: string): Promise<CompiledGrammar> {
    let compiled = this.#compiled.get(grammar);
    // What was used last comes last.
    this.#compiled.delete(grammar);
    compiled ??= this.#compileInTurn(grammar);
    this.#compiled.set(grammar, compiled);
    const [oldest] = this.#compiled;
    if (this.#compiled.size > MOST_GRAMMARS) {
      this.#compiled.delete(oldest[0]);
      oldest[1].then((one) => one.dispose(), () => {});
    }
    compiled.catch(() => this.#compiled.delete(grammar));
    return compiled;
  }

  /**
   * Compiles grammars one after the other. What is compiled can't come from another thread (xgrammar's WebAssembly writes
   * it nowhere), so that the steps of other answers wait: after each grammar they have as long as it took.
   */
  #compileInTurn(grammar: string): Promise<CompiledGrammar> {
    const compiled = this.#turn.then(async () => {
      const compiler = await this.#compiler, rest = this.#restUntil - performance.now();
      if (rest > 0) await setTimeout(rest);
      const began = performance.now();
      try {
        return await compiler.compileGrammar(grammar);
      } finally {
        this.#restUntil = 2 * performance.now() - began;
      }
    });
    this.#turn = compiled.catch(() => {});
    return compiled;
  }
}
