#!/usr/bin/env bash
# oniguruma-to-es 4.3.6 makes \w of a pattern [\p{L}\p{M}\p{N}\p{Pc}], as Oniguruma's document has it, but Oniguruma's own
# \w takes no number of category No beyond Latin-1 (①, ৴), and does take letters in circles (Ⓐ).
# Its [[:word:]] becomes another class than its \w, so that it is at odds with itself too, and Oniguruma is with itself
# over ² and ½, which \w takes and [\w] doesn't.
# So a pre-tokenizer whose pattern has \w needs Oniguruma's own table to cut as tokenizers does.
#
# Seen with oniguruma-to-es 4.3.6, tokenizers 0.23.2 (whose Regex is Oniguruma).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet tokenizers==0.23.2
venv/bin/python - > oniguruma.json <<'PYTHON'
import json
from tokenizers import Regex, pre_tokenizers

def taken(pattern, character):
    return not pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(character)

patterns = [r"\w", r"[\w]", "[[:word:]]"]
print(json.dumps({pattern: [c for c in "aé1٣_Ⅷ①৴²½Ⓐ" if taken(pattern, c)] for pattern in patterns}))
PYTHON
npm install --silent --no-audit --no-fund oniguruma-to-es@4.3.6 > /dev/null
cat > compare.mjs <<'JAVASCRIPT'
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { toRegExp } from "oniguruma-to-es";

const oniguruma = JSON.parse(readFileSync("oniguruma.json", "utf8"));
const seen = {};
for (const [pattern, own] of Object.entries(oniguruma)) {
  seen[pattern] = [..."aé1٣_Ⅷ①৴²½Ⓐ"].filter((c) => toRegExp(pattern).test(c)).join("");
  console.log(`${pattern} takes in Oniguruma ${own.join("")}, here ${seen[pattern]}`);
}
assert.deepEqual(Object.values(oniguruma).map((own) => own.join("")), ["aé1٣_Ⅷ²½Ⓐ", "aé1٣_ⅧⒶ", "aé1٣_ⅧⒶ"]);
assert.deepEqual(Object.values(seen), ["aé1٣_Ⅷ①৴²½", "aé1٣_Ⅷ①৴²½", "aé1٣_ⅧⒶ"]);
JAVASCRIPT
node compare.mjs
echo "still so"
