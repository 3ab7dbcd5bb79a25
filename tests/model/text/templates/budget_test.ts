/** Templates that ask for more than any machine has, though each part of them is small. */
import assert from "node:assert/strict";
import { spend, withinBudget } from "../../../../model/text/templates/jinja/budget.ts";
import { TemplateError } from "../../../../model/text/templates/jinja/errors.ts";
import { Template } from "../../../../model/text/templates/jinja/template.ts";

const LIMIT = /more than [\d.]+|too (deep|long|often)/;

/** Each with what it multiplies. */
const GREEDY: Record<string, string> = {
  "loops in loops":
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
  "loops that write":
    "{% for a in range(99999) %}{% for b in range(999) %}abcdefgh{% endfor %}{% endfor %}",
  "texts that grow": "{% set n = namespace(t='a' * 1000000, l=[]) %}" +
    "{% for i in range(99999) %}{% set n.l = n.l + [n.t ~ i] %}{% endfor %}",
  "lists that become longer": "{% set n = namespace(l=range(1000)|list, k=[]) %}" +
    "{% for i in range(99999) %}{% set n.k = [n.k, n.l + [i]] %}{% endfor %}",
  "searches in long texts":
    "{% set t = 'a' * 20000000 %}{% for i in range(99999) %}{% if t.find('b') > 0 %}x{% endif %}{% endfor %}",
  "searches by in":
    "{% set t = 'a' * 20000000 %}{% for i in range(99999) %}{% if 'b' in t %}x{% endif %}{% endfor %}",
  "values that hold each other, compared":
    "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(60) %}" +
    "{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}",
  "values that hold each other, written":
    "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a }}",
  "values that hold each other, as JSON":
    "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a | tojson }}",
  "values that hold each other, as keys":
    "{% set n = namespace(a=(1,)) %}{% for i in range(60) %}{% set n.a = (n.a, n.a) %}{% endfor %}{{ {n.a: 1} }}",
  "macros that call each other":
    "{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
  "filters over filters":
    "{% for i in range(99999) %}{{ range(99999) | map('string') | join | length }}{% endfor %}",
  "sorts": "{% for i in range(99999) %}{{ range(99999) | sort(reverse=true) | first }}{% endfor %}",
};

/** All take some seconds: by default two of them are looked at. */
const all = Deno.env.get("LORIKEET_ALL_INPUTS") !== undefined;
const looked = Object.entries(GREEDY).filter(([name]) => all || /compared|grow/.test(name));

for (const [name, source] of looked) {
  Deno.test(`jinja: ${name} are refused, and soon`, () => {
    const began = performance.now();
    assert.throws(() => new Template(source).render(new Map()), (error) => {
      assert.ok(error instanceof TemplateError, `${error}`);
      assert.match(error.message, LIMIT);
      return true;
    });
    const seconds = (performance.now() - began) / 1000;
    // Of a machine that has other work.
    assert.ok(seconds < 60, `${seconds} s`);
  });
}

Deno.test("jinja: a budget is that of one rendering", () => {
  for (let i = 0; i < 3; i++) withinBudget(() => spend(900_000_000));
  assert.throws(() => withinBudget(() => spend(1_100_000_000)), TemplateError);
  spend(1_100_000_000); // what is made around renderings is nobody's
});
