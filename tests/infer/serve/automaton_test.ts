/** Languages as rules: what xgrammar takes by them is the language, to the last text. */
import assert from "node:assert/strict";
import { type Language, languageRules, textOf } from "../../../infer/serve/grammar/automaton.ts";
import { grammarLibrary } from "../../../infer/serve/grammar/library.ts";
import { random } from "../../kernels/harness.ts";

const LETTERS = ["a", "b", "c"], LONGEST = 6;
/** Languages that are drawn. */
const LANGUAGES = 80;

const { TokenizerInfo, GrammarCompiler, GrammarMatcher } = await grammarLibrary();
const info = await TokenizerInfo.createTokenizerInfo([...LETTERS, "</s>"], "raw", false, 4, [3]);
const compiler = await GrammarCompiler.createGrammarCompiler(info);

/** All texts of up to {@linkcode LONGEST} letters that a grammar takes. */
async function textsOf(ebnf: string): Promise<string[]> {
  const compiled = await compiler.compileGrammar(ebnf), all: string[] = [];
  const follow = async (text: string) => {
    const matcher = await GrammarMatcher.createGrammarMatcher(compiled);
    for (const letter of text) matcher.acceptToken(LETTERS.indexOf(letter));
    const [bits] = new Uint32Array(await matcher.getNextTokenBitmask());
    matcher.dispose();
    if (bits >>> 3 & 1) all.push(text);
    if (text.length === LONGEST) return;
    for (const [i, letter] of LETTERS.entries()) if (bits >>> i & 1) await follow(text + letter);
  };
  await follow("");
  compiled.dispose();
  return all.sort();
}

/** All texts of up to so many letters. */
const WORDS = Array.from({ length: LONGEST }).reduce<string[]>(
  (words) => ["", ...words.flatMap((word) => LETTERS.map((letter) => word + letter))],
  [""],
);
const matched = (pattern: string) =>
  [...new Set(WORDS)].filter((word) => new RegExp(`^(?:${pattern})$`).test(word)).sort();

const grammarOf = (language: Language) => {
  const rules = languageRules(language, "s"), [[first]] = rules;
  return [`root ::= ${first}`, ...rules.map(([name, body]) => `${name} ::= ${body}`)].join("\n");
};

/** A language, and a regular expression of it. */
function drawn(next: () => number, depth: number): [Language, string] {
  const pick = (count: number) => Math.floor((next() + 1) / 2 * count);
  const some = (count: number) => Array.from({ length: count }, () => drawn(next, depth - 1));
  const parts = (all: [Language, string][]) => all.map(([language]) => language);
  switch (pick(depth > 0 ? 7 : 2)) {
    case 0: {
      const letter = LETTERS[pick(3)];
      return [textOf(letter), letter];
    }
    case 1: {
      const letters = ["ab", "bc", "ac", "abc"][pick(4)];
      const symbols = Array.from(letters).reduce(
        (bits, letter) => bits | 1n << BigInt(letter.charCodeAt(0)),
        0n,
      );
      return [{ kind: "set", symbols }, `[${letters}]`];
    }
    case 2:
    case 3: {
      const all = some(2 + pick(2));
      return [{ kind: "sequence", parts: parts(all) }, all.map(([, text]) => text).join("")];
    }
    case 4:
    case 5: {
      const all = some(2 + pick(3));
      return [{ kind: "union", parts: parts(all) }, `(?:${all.map(([, text]) => text).join("|")})`];
    }
    default: {
      const [[part, text]] = some(1),
        least = pick(3),
        most = [undefined, least, least + 2][pick(3)];
      return [{ kind: "repeat", part, least, most }, `(?:${text}){${least},${most ?? ""}}`];
    }
  }
}

Deno.test("automaton: a grammar of a language has its texts, and no others", async () => {
  const next = random(5);
  for (let i = 0; i < LANGUAGES; i++) {
    const [language, pattern] = drawn(next, 4);
    assert.deepEqual(await textsOf(grammarOf(language)), matched(pattern), pattern);
  }
});

Deno.test("automaton: texts that begin and end alike are told from one another", async () => {
  const texts = ["a", "ab", "abb", "ca", "cab", "cabb"];
  const language: Language = { kind: "union", parts: texts.map(textOf) };
  assert.deepEqual(await textsOf(grammarOf(language)), texts.toSorted());
  // What it is for: as alternatives of one rule the library takes more.
  const plain = `root ::= ${texts.map((text) => `"${text}"`).join(" | ")}`;
  assert.ok(
    (await textsOf(plain)).includes("abbb"),
    "the library needs deterministic rules no more",
  );
});
