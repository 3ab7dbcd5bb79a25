/** What tasks ask of Python, beside what Python itself says (tests/fixtures/make_evaluate.py). */
import assert from "node:assert/strict";
import { filterChains } from "../../../infer/evaluate/filters.ts";
import { NoLiteral, readLiteral } from "../../../infer/evaluate/python/literal.ts";
import { Random } from "../../../infer/evaluate/python/random.ts";
import {
  findAll,
  pythonExpression,
  substitute,
} from "../../../infer/evaluate/python/regular_expression.ts";
import { bytes, length, words } from "../../../infer/evaluate/python/strings.ts";
import { TaskTexts } from "../../../infer/evaluate/task_texts.ts";
import { UserError } from "../../../kernels/errors.ts";
import { readJsonText } from "../../../model/text/templates/jinja/json.ts";
import { repr } from "../../../model/text/templates/jinja/repr.ts";
import { Dict, List, text } from "../../../model/text/templates/jinja/values.ts";
import { fixturePath } from "../../fixtures.ts";

const SOURCE = Deno.readTextFileSync(fixturePath("evaluate/python.json"));
const PYTHON = JSON.parse(SOURCE);

Deno.test("evaluate: random numbers and samples are Python's", () => {
  const random = new Random(1234n);
  assert.deepEqual(PYTHON.random, [random.random(), random.random(), random.random()]);
  for (const [items, count, expected] of PYTHON.samples) {
    const all = Array.from({ length: items }, (_, i) => i);
    assert.deepEqual(random.sample(all, count), expected, `${count} of ${items}`);
  }
  assert.equal(new Random(2n ** 40n + 5n).random(), PYTHON.large_seed);
});

Deno.test("evaluate: regular expressions find and replace what Python's do", () => {
  for (const [pattern, subject, expected] of PYTHON.findall) {
    assert.deepEqual(findAll(pythonExpression(pattern, "t"), subject), expected, pattern);
  }
  for (const [pattern, replacement, subject, count, expected] of PYTHON.substituted) {
    assert.equal(substitute(pythonExpression(pattern, "t"), replacement, subject, count), expected);
  }
  for (const pattern of ["a++", "(?>a)", "(?(1)a|b)", "(", "[a", "\\y", "a\\", "b(?i)a"]) {
    assert.throws(() => pythonExpression(pattern, "t"), UserError, pattern);
  }
});

Deno.test("evaluate: literals are Python's, and what is none is refused", () => {
  for (const [source, expected] of PYTHON.literals) {
    if (expected === null) assert.throws(() => readLiteral(source), NoLiteral, source);
    else assert.equal(repr(readLiteral(source)).value, expected);
  }
});

Deno.test("evaluate: templates are rendered as lm-evaluation-harness sets Jinja2 up", () => {
  const given = (readJsonText(SOURCE) as Dict).text("given") as Dict;
  const texts = new TaskTexts("t.yaml", new Set(), false);
  const document = { where: () => "row 1", fields: given };
  for (const [template, expected] of PYTHON.templates) {
    const render = () => texts.around(template, "description", document);
    if (expected !== null) assert.equal(render(), expected, template);
    else assert.throws(render, /^UserError: row 1, t\.yaml: description can't be rendered: /);
  }
});

Deno.test("evaluate: filters leave what those of lm-evaluation-harness do", () => {
  const document = {
    where: () => "row 1",
    fields: new Dict([[text("choices"), new List(PYTHON.choices.map(text))]]),
  };
  for (const [filter, expected] of PYTHON.chains) {
    const [chain] = filterChains([{ name: "f", filter }], "t.yaml");
    assert.deepEqual(chain.apply(PYTHON.answers, document), expected, JSON.stringify(filter));
  }
});

Deno.test("evaluate: texts have characters, bytes and words as Python counts them", () => {
  assert.deepEqual([length("aé🐦"), bytes("aé🐦"), words(" a b\u00a0c\n")], [3, 7, 5]);
});
