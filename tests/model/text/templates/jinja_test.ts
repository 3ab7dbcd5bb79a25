/** Our Jinja2 against what Jinja2 itself makes of the same templates, as transformers sets it up. */
import assert from "node:assert/strict";
import { TemplateError } from "../../../../model/text/templates/jinja/errors.ts";
import { readJsonText } from "../../../../model/text/templates/jinja/json.ts";
import { strftime } from "../../../../model/text/templates/jinja/strftime.ts";
import { Template } from "../../../../model/text/templates/jinja/template.ts";
import { Text } from "../../../../model/text/templates/jinja/text.ts";
import { Dict, List, text, type Value } from "../../../../model/text/templates/jinja/values.ts";
import { fixturePath } from "../../../fixtures.ts";
import { exists, sharedCase } from "../../../shared.ts";

/** The time in the fixtures. */
const NOW = new Date(2026, 0, 7, 15, 4, 5, 123);

interface Case {
  template: string;
  variables: Dict;
  /** null where Jinja2 refuses the template. */
  expected: string | null;
}

function asDict(value: Value | undefined): Dict {
  if (value instanceof Dict) return value;
  throw new Error("the fixture has no object where one is expected");
}

function asList(value: Value | undefined): readonly Value[] {
  if (value instanceof List) return value.items;
  throw new Error("the fixture has no list where one is expected");
}

const asString = (value: Value | undefined) => value instanceof Text ? value.value : null;

/** Numbers of the variables are as Python has them: 1 and 1.0 are two. */
function readFixture(): Case[] {
  const whole = asDict(readJsonText(Deno.readTextFileSync(fixturePath("chat_templates.json"))));
  const variables = asDict(whole.text("variables"));
  return asList(whole.text("cases")).map((row) => {
    const [template, name, expected] = asList(row);
    return {
      template: asString(template) ?? "",
      variables: asDict(variables.text(asString(name) ?? "")),
      expected: asString(expected),
    };
  });
}

function named(variables: Dict): Map<string, Value> {
  return new Map(variables.items().map(([key, value]) => [asString(key) ?? "", value]));
}

function render(template: string, variables: Map<string, Value>): Text | null {
  try {
    return new Template(template).render(variables, () => NOW);
  } catch (error) {
    if (error instanceof TemplateError) return null;
    throw error;
  }
}

/** Fails with all cases that are otherwise. */
function compare(cases: readonly Case[]): void {
  assert.ok(cases.length > 0);
  const different = cases.flatMap(({ template, variables, expected }) => {
    const given = render(template, named(variables))?.value ?? null;
    return given === expected ? [] : [{ template, given, expected }];
  });
  assert.deepEqual(different, []);
}

const CASES = readFixture();
/** Whether it is a whole chat template; the others are expressions and statements. */
const isChat = ({ variables }: Case) => variables.has(text("messages"));

Deno.test("jinja: expressions and statements give what Jinja2 gives, or are refused as by it", () => {
  const plain = CASES.filter((one) => !isChat(one));
  assert.ok(plain.length > 900);
  compare(plain);
});

Deno.test("jinja: chat templates of the usual shapes, over conversations with tools and blanks", () => {
  const chats = CASES.filter(isChat);
  assert.equal(chats.length, 5 * 8 * 3);
  compare(chats);
});

const shared = sharedCase("templates.json");
Deno.test({
  name: "jinja: the shared constructs, all of them" + (exists(shared) ? "" : " (no shared cases)"),
  ignore: !exists(shared),
  fn: () => {
    const rows = asList(readJsonText(Deno.readTextFileSync(shared))).map(asDict);
    compare(rows.map((row) => ({
      template: asString(row.text("template")) ?? "",
      variables: asDict(row.text("with")),
      expected: asString(row.text("text")),
    })));
  },
});

/** The same value with every letter of its texts Cyrillic and, with `quote`, quoted; roles stay. */
function cyrillic(value: Value, quote: boolean): Value {
  if (value instanceof Text) {
    const letters = value.value.replace(
      /[a-z]/gi,
      (letter) => String.fromCharCode(0x430 + letter.toLowerCase().charCodeAt(0) - 0x61),
    );
    return quote ? Text.quote(letters) : text(letters);
  }
  if (value instanceof List) return new List(value.items.map((item) => cyrillic(item, quote)));
  if (!(value instanceof Dict)) return value;
  return new Dict(
    value.items().map(([key, item]) => {
      const own = ["role", "type", "name"].includes(asString(key) ?? "") && item instanceof Text;
      return [key, own ? item : cyrillic(item, quote)] as const;
    }),
  );
}

Deno.test("jinja: what is quoted from messages is known to the letter, and changes nothing", () => {
  let letters = 0;
  for (const { template, variables } of CASES.filter(isChat)) {
    const given = named(variables), messages = given.get("messages") ?? null;
    const [quoted, plain] = [true, false].map((quote) =>
      render(template, new Map([...given, ["messages", cyrillic(messages, quote)]]))
    );
    assert.equal(quoted?.value, plain?.value);
    if (quoted === null) continue;
    assert.ok(!plain?.isQuoted(0, plain.value.length));
    for (let i = 0; i < quoted.value.length; i++) {
      const letter = quoted.value[i];
      if (/\p{Script=Cyrillic}/u.test(letter)) {
        letters++;
        assert.ok(quoted.isQuoted(i, i + 1), `${template}: ${quoted.value.slice(i)}`);
      } else if (/[a-zA-Z[\]]/.test(letter)) {
        assert.ok(!quoted.isQuoted(i, i + 1), `${template}: ${quoted.value.slice(i)}`);
      }
    }
  }
  assert.ok(letters > 500, `${letters}`);
});

/** A rendered text with what is quoted in braces. */
function marked(template: string, content: string): string {
  const rendered = new Template(template).render(new Map([["q", Text.quote(content)]]));
  let shown = "", position = 0;
  for (const { start, end } of rendered.runs) {
    shown += `${rendered.value.slice(position, start)}{${rendered.value.slice(start, end)}}`;
    position = end;
  }
  return shown + rendered.value.slice(position);
}

Deno.test("jinja: operations on strings keep what is quoted", () => {
  const expected: Record<string, string> = {
    "<{{ q }}>": "<{ aBc, 😀d }>",
    "<{{ q | trim }}>": "<{aBc, 😀d}>",
    "{{ 'x' + q[1:4] + 'y' ~ q[-3] }}": "x{aBc}y{😀}",
    "{{ q | upper }}{{ q.title() }}": "{ ABC, 😀D  Abc, 😀D }",
    "{{ q.replace('c', 'x-') }}": "{ aB}x-{, 😀d }",
    "{{ 'a1a' | replace('1', q) }}": "a{ aBc, 😀d }a",
    "{{ q.split(',') | join('|') }}": "{ aBc}|{ 😀d }",
    "{{ 'x,y'.split(',') | join(q) }}": "x{ aBc, 😀d }y",
    "{{ q[::-1] }}": "{ d😀 ,cBa }",
    "{{ q | tojson }}": '"{ aBc, 😀d }"',
    "{{ [q] }}{{ {q: 1} }}": "['{ aBc, 😀d }']{'{ aBc, 😀d }': 1}",
    "{{ '%s-%5s' % (q, 'n') }}": "{ aBc, 😀d }-    n",
    "{{ '{}|{:>12}'.format(q[:3], q[1:4]) }}": "{ aB}|         {aBc}",
    "{{ q | list | first }}{{ q | last }}{{ q | reverse | first }}": "{   }",
    "{% for c in q[1:3] %}{{ c }};{% endfor %}": "{a};{B};",
    "{% set x %}<{{ q }}>{% endset %}{{ x[1:4] | lower }}": "{ ab}",
    "{% macro m(x) %}({{ x }}){% endmacro %}{{ m(q) | indent }}": "({ aBc, 😀d })",
    "{{ q | escape }}{{ ('<' | escape) + q }}": "{ aBc, 😀d }&lt;{ aBc, 😀d }",
    "{{ q.partition(',')[2].strip() }}": "{😀d}",
    "{{ q | truncate(6, true, '..', 0) }}": "{ aBc}..",
    "{{ 'xyz' if q else q }}{{ 'c' if 'aB' in q }}": "xyzc",
    "{{ q | length }}{{ q.find('c') }}{{ q == ' aBc, 😀d ' }}": "93True",
    "{% filter upper %}x{{ q }}{% endfilter %}": "X{ ABC, 😀D }",
    "{{ q.zfill(11) }}{{ q.center(11, '*') }}": "00{ aBc, 😀d }*{ aBc, 😀d }*",
  };
  for (const [template, text] of Object.entries(expected)) {
    assert.equal(marked(template, " aBc, 😀d "), text, template);
  }
  // Escapes of what is quoted are quoted, too.
  assert.equal(marked("{{ q | tojson }}{{ q | e }}", '<"\n'), '"{<\\"\\n}"{&lt;&#34;\n}');
});

Deno.test("jinja: errors have their line", () => {
  const lines = (template: string, line: number, message: RegExp) =>
    assert.throws(
      () => new Template(template).render(new Map()),
      (error) =>
        error instanceof TemplateError && error.line === line && message.test(error.message),
    );
  lines("a\n{% if x %}\n{{ 1 + }}", 3, /^expected an expression, got '}}'$/);
  lines("a\r\n\r\n{{ x.y }}", 3, /^'x' is undefined$/);
  lines("{% for i in [1] %}\n{{ i }}\n{% endif %}", 3, /^unknown tag 'endif'; 'endfor' or 'else'/);
  lines("{% for i in [1] %}\n\n", 2, /^the template ends where 'endfor' or 'else' is expected$/);
  lines("\n{{ 'a' }", 2, /^unexpected '}'$/);
  lines("{# a\n", 1, /^Missing end of comment tag$/);
  lines(
    "{% set x = [1,\n2,\n'a' - 1] %}",
    3,
    /^unsupported operand type\(s\) for -: 'str' and 'int'$/,
  );
  lines(
    "{% block a %}{% endblock %}\n{% block a %}{% endblock %}",
    2,
    /^block 'a' is there twice$/,
  );
  lines("{{ lipsum() }}", 1, /lipsum\(\) is not supported/);
  lines("{{ [1, 2] | random }}", 1, /filter 'random' is not supported/);
});

Deno.test("jinja: days and weeks of strftime at the turns of years", () => {
  const dates = [[2024, 11, 30], [2021, 0, 3], [2023, 0, 1], [2020, 11, 31], [
    2026,
    5,
    15,
  ]] as const;
  // As `date +FORMAT` of the GNU coreutils gives them.
  const expected = [
    "365 52 53 01 2025 25 1 1",
    "003 01 00 53 2020 20 7 0",
    "001 01 00 52 2022 22 7 0",
    "366 52 52 53 2020 20 4 4",
    "166 24 24 25 2026 26 1 1",
  ];
  const given = dates.map(([year, month, day]) =>
    strftime(new Date(year, month, day), "%j %U %W %V %G %g %u %w")
  );
  assert.deepEqual(given, expected);
});
