#!/usr/bin/env bash
# minijinja-js 2.11.0 gives other texts than Jinja2 for small templates that both read: it goes through a dictionary by
# sorted keys instead of the order given, prints true and none for True and None, and lists with double quotes.
# The break and continue that chat templates use (Jinja2's loopcontrols) are syntax errors in it.
# So chat templates that Python is to render alike can't be left to it as they are.
#
# Seen with minijinja-js 2.11.0, Jinja2 3.1.6.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > templates.json <<'JSON'
{
  "given": "{% for key in d %}{{ key }} {% endfor %}",
  "written": "{% for key in {'tree': 1, 'seed': 2} %}{{ key }} {% endfor %}",
  "constants": "{{ true }} {{ none }}",
  "list": "{{ ['seed', none] }}",
  "break": "{% for x in [1, 2, 3] %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% endfor %}",
  "continue": "{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}"
}
JSON
python3 -m venv venv
venv/bin/pip install --quiet jinja2==3.1.6
venv/bin/python - > python.json <<'PYTHON'
import json
from jinja2.sandbox import ImmutableSandboxedEnvironment

environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
templates = json.load(open("templates.json"))
print(json.dumps({name: environment.from_string(text).render(d={"b": 1, "a": 2}) for name, text in templates.items()}))
PYTHON
npm install --silent --no-audit --no-fund minijinja-js@2.11.0 > /dev/null
cat > compare.cjs <<'JAVASCRIPT'
const assert = require("node:assert");
const { readFileSync } = require("node:fs");
const { Environment } = require("minijinja-js");

const templates = JSON.parse(readFileSync("templates.json", "utf8"));
const python = JSON.parse(readFileSync("python.json", "utf8"));
const seen = {};
for (const [name, text] of Object.entries(templates)) {
  try {
    seen[name] = new Environment().renderStr(text, { d: { b: 1, a: 2 } });
  } catch (error) {
    seen[name] = "error: " + String(error.message ?? error).split(" (in")[0];
  }
  console.log(`${name}: Jinja2 ${JSON.stringify(python[name])}, here ${JSON.stringify(seen[name])}`);
}
assert.deepEqual(Object.values(python), ["b a ", "tree seed ", "True None", "['seed', None]", "12", "13"]);
const { break: stop, continue: skip, ...rest } = seen;
assert.deepEqual(Object.values(rest), ["a b ", "seed tree ", "true none", '["seed", none]']);
assert(stop.includes("unknown statement break") && skip.includes("unknown statement continue"));
JAVASCRIPT
node compare.cjs
echo "still so"
