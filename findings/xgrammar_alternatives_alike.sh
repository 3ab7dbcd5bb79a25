#!/usr/bin/env bash
# @mlc-ai/web-xgrammar 0.1.27, with which JavaScript programs keep a model's answers to a grammar, takes texts outside of it
# where a rule's alternatives both begin and end alike: of "a" | "ab" | "abb" | "ca" | "cab" | "cabb" it takes any
# number of b at the end.
# An enum of the same six values in a JSON schema, by the library's own compileJSONSchema, lets "abbb" through as well.
# Rules of which no two alternatives begin alike give it nothing to merge wrongly, and take the six texts and no other.
#
# Seen with @mlc-ai/web-xgrammar 0.1.27, the newest on npm; https://github.com/mlc-ai/xgrammar/pull/632 and 911 are about it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund @mlc-ai/web-xgrammar@0.1.27 > /dev/null
# The package says that it has modules, but its file is a script: Node.js loads it by this name.
cp node_modules/@mlc-ai/web-xgrammar/lib/index.js xgrammar.cjs
cat > compare.cjs <<'JAVASCRIPT'
const assert = require("node:assert");
const { GrammarCompiler, GrammarMatcher, TokenizerInfo } = require("./xgrammar.cjs");

const LETTERS = ["a", "b", "c", '"'], END = LETTERS.length, LONGEST = 7;
const TEXTS = ["a", "ab", "abb", "ca", "cab", "cabb"];
const ALTERNATIVES = `root ::= ${TEXTS.map((text) => `"${text}"`).join(" | ")}`;
const DETERMINISTIC = `root ::= "a" some | "c" "a" some
some ::= "" | "b" more
more ::= "" | "b"`;

/** All texts of up to LONGEST letters that a compiled grammar takes, token by token. */
async function textsOf(compiled) {
  const all = [];
  const follow = async (text) => {
    const matcher = await GrammarMatcher.createGrammarMatcher(compiled);
    for (const letter of text) assert(matcher.acceptToken(LETTERS.indexOf(letter)));
    const [bits] = await matcher.getNextTokenBitmask();
    matcher.dispose();
    if (bits >> END & 1) all.push(text);
    for (const [id, letter] of LETTERS.entries()) {
      if (bits >> id & 1 && text.length < LONGEST) await follow(text + letter);
    }
  };
  await follow("");
  return all.sort().join(" ");
}

(async () => {
  const info = await TokenizerInfo.createTokenizerInfo([...LETTERS, "</s>"], "raw", false, END + 1, [END]);
  const compiler = await GrammarCompiler.createGrammarCompiler(info);
  const seen = {
    alternatives: await textsOf(await compiler.compileGrammar(ALTERNATIVES)),
    enum: await textsOf(await compiler.compileJSONSchema(JSON.stringify({ enum: TEXTS }))),
    deterministic: await textsOf(await compiler.compileGrammar(DETERMINISTIC)),
  };
  console.log(`expected: ${TEXTS.join(" ")}`);
  for (const [name, texts] of Object.entries(seen)) console.log(`${name}: ${texts}`);
  const longer = (text) => Array.from({ length: LONGEST + 1 - text.length }, (_, i) => text + "b".repeat(i));
  assert.equal(seen.alternatives, [...longer("a"), ...longer("ca")].join(" "));
  assert.equal(seen.enum, '"a" "ab" "abb" "abbb" "abbbb" "ca" "cab" "cabb" "cabbb"');
  assert.equal(seen.deterministic, TEXTS.join(" "));
})();
JAVASCRIPT
node compare.cjs
echo "still so"
