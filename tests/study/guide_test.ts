/** Every number of the study guide is quoted from an example, a checked fact, or part of a name. */
import assert from "node:assert/strict";
import { FACTS } from "../../examples/study/facts.ts";
import { SOURCES } from "../../examples/study/sources.ts";
import { chapter, CHAPTERS, quotations, uncovered } from "./guide.ts";

const texts = new Map(CHAPTERS.map((path) => [path, chapter(path)]));
const all = [...texts.values()].join("\n").replace(/\s+/g, " ");

for (const [path, text] of texts) {
  Deno.test(`study guide: ${path} has no number that nothing bears out`, () => {
    assert.deepEqual(uncovered(text), []);
  });
}

Deno.test("study guide: facts hold, and are said", () => {
  for (const { text, holds } of FACTS) {
    assert.ok(holds?.() ?? true, `${text} does not hold`);
    assert.ok(all.includes(text.replace(/\s+/g, " ")), `nobody says: ${text}`);
  }
  for (const source of Object.values(SOURCES)) assert.ok(all.includes(source), source);
});

Deno.test("study guide: a changed number is noticed", () => {
  let changed = 0;
  for (const text of texts.values()) {
    const quoted = quotations(text).flatMap(({ lines }) => lines).join("\n");
    for (const { text: fact } of FACTS) {
      const at = text.indexOf(fact);
      // Once is enough; what another fact says as well would cover for it.
      if (at < 0 || quoted.includes(fact)) continue;
      const digit = fact.search(/\d/);
      if (digit < 0) continue;
      const other = String((Number(fact[digit]) + 3) % 10);
      const wrong = fact.slice(0, digit) + other + fact.slice(digit + 1);
      if (FACTS.some(({ text }) => text.includes(wrong) || wrong.includes(text))) continue;
      const altered = text.slice(0, at) + wrong + text.slice(at + fact.length);
      assert.notDeepEqual(uncovered(altered), [], `${fact} → ${wrong}`);
      changed++;
    }
  }
  assert.ok(changed > 20, `only ${changed} facts were changed`);
  assert.deepEqual(uncovered("It took 12 steps."), ["It took 12 steps.", "It took 12 steps."]);
  assert.deepEqual(uncovered("# 3 ways\n\n1. Llama 2 in f16, [see 4](5.md).\n"), []);
});
