#!/usr/bin/env bash
# @huggingface/jinja 0.5.11, with which JavaScript programs render chat templates, gives other texts than Jinja2, with which
# Python renders them, for small templates that both read.
# '1' == 1 is true and ['a'] == ['a'] false, `continue` and `break` drop what their turn had written, and strip('\n')
# takes blanks too; 1e3 is a syntax error, and d.get('a') fails where d has a key named get.
# So a template that is to give one text in both keeps away from these.
#
# Seen with @huggingface/jinja 0.5.11, Jinja2 3.1.6.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > templates.json <<'JSON'
{
  "number": "{{ '1' == 1 }}",
  "lists": "{{ 'same' if ['a'] == ['a'] else 'other' }}",
  "continue": "{% for x in [1, 2, 3] %}[{{ x }}{% if x == 2 %}{% continue %}{% endif %}]{% endfor %}",
  "break": "{% for x in [1, 2, 3] %}[{{ x }}{% if x == 2 %}{% break %}{% endif %}]{% endfor %}",
  "strip": "({{ '\\n a \\n'.strip('\\n') }})",
  "exponent": "{{ 1e3 }}",
  "get": "{{ d.get('a') }}"
}
JSON
python3 -m venv venv
venv/bin/pip install --quiet jinja2==3.1.6
venv/bin/python - > python.json <<'PYTHON'
import json
from jinja2.sandbox import ImmutableSandboxedEnvironment

environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
templates = json.load(open("templates.json"))
print(json.dumps({name: environment.from_string(text).render(d={"a": 1, "get": 2}) for name, text in templates.items()}))
PYTHON
npm install --silent --no-audit --no-fund @huggingface/jinja@0.5.11 > /dev/null
cat > compare.mjs <<'JAVASCRIPT'
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { Template } from "@huggingface/jinja";

const templates = JSON.parse(readFileSync("templates.json", "utf8"));
const python = JSON.parse(readFileSync("python.json", "utf8"));
const seen = {};
for (const [name, text] of Object.entries(templates)) {
  try {
    seen[name] = new Template(text).render({ d: { a: 1, get: 2 } });
  } catch (error) {
    seen[name] = "error: " + error.message;
  }
  console.log(`${name}: Jinja2 ${JSON.stringify(python[name])}, here ${JSON.stringify(seen[name])}`);
}
assert.deepEqual(Object.values(python), ["False", "same", "[1][2[3]", "[1][2", "( a )", "1000.0", "1"]);
const { exponent, get, ...rest } = seen;
assert.deepEqual(Object.values(rest), ["true", "other", "[1][3]", "[1]", "(a)"]);
assert(exponent.startsWith("error: Parser Error") && get.startsWith("error: Cannot call"));
JAVASCRIPT
node compare.mjs
echo "still so"
