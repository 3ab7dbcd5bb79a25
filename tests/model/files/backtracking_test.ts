import assert from "node:assert/strict";
import { gunzipSync } from "node:zlib";
import { endlessWord, MOST_LOOKS_AT_NAMES } from "../../../model/files/backtracking.ts";
import { loadPatterns } from "../../../model/text/tokenizer/pipeline/oniguruma.ts";
import { fixturePath } from "../../fixtures.ts";

/** Expressions that take for ever, and whether they do on names of modules. */
const ENDLESS: [source: string, names: boolean][] = [
  ["(a+)+b", true],
  ["(a|a)*b", true],
  ["(a|aa)+b", true],
  ["(a?a?b)*c", true],
  ["(.*)*x", true],
  ["(\\w+\\s?)*!", true],
  ["([a-z]+)*\\d", true],
  ["((a*)*)*b", true],
  ["(?:\\d{1,5}){1,50}x", true],
  ["(\\p{L}|\\p{Lu})*\\d", true],
  ["a*a*a*b", false],
  [
    "(a?){30,}".replace("a?", "(a?){30,}").replace("a?", "(a?){30,}").replace("a?", "(a?){30,}"),
    true,
  ],
  [`${"(".repeat(40)}a${"*)".repeat(40)}b`, true],
];

/** Expressions as tokenizers have them, or could, which take a text's length or its square at most. */
const QUICK = [
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" +
  "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t)?|" +
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t)?",
  " ?[^(\\s|[.,!?…。，、।۔،])]+",
  "\\p{N}{1,3}(?=(?:\\p{N}{3})*(?:\\P{N}|$))",
  "(?:\\s+\\w+)*",
  "(?>a+)+b",
  "(\\.\\w+)*",
  "\\b(?:https?://)?\\w+(?:\\.\\w+)+\\b",
];

Deno.test("patterns: those that take for ever are found, with a text on which they do", async () => {
  const translate = await loadPatterns();
  for (const [source, names] of ENDLESS) {
    assert.equal(endlessWord(new RegExp(source, "u")) !== undefined, true, source);
    assert.equal(
      endlessWord(new RegExp(source, "u"), MOST_LOOKS_AT_NAMES) !== undefined,
      names,
      source,
    );
    assert.throws(() => translate(source), {
      name: "RangeError",
      message: /would take for ever where a text repeats ".*"; expected no repetition/,
    });
  }
});

Deno.test("patterns: those of tokenizers are taken", async () => {
  const translate = await loadPatterns();
  for (const source of QUICK) assert.ok(translate(source) instanceof RegExp, source);
  const seen = new Set<string>();
  const look = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    for (const [key, inner] of Object.entries(value)) {
      if (key === "Regex" && typeof inner === "string") seen.add(inner);
      else look(inner);
    }
  };
  const packed = Deno.readFileSync(fixturePath("tokenizers/kinds.json.gz"));
  look(JSON.parse(new TextDecoder().decode(gunzipSync(packed))));
  assert.ok(seen.size > 0, "no pattern was found");
  for (const source of seen) assert.ok(translate(source) instanceof RegExp, source);
});
