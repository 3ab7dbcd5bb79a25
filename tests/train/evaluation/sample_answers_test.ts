/** What is said of the built-in example's held-out prompts. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { loadTokenizer } from "../../../model/text/tokenizer/load.ts";
import { ROOT } from "../../../scripts/compile.ts";
import { SampleAnswers } from "../../../train/evaluation/sample_answers.ts";

Deno.test("sample answers: of a run that was gone on with, the first are those before its next step", async () => {
  const answers = new SampleAnswers(
    await loadTokenizer(join(ROOT, "examples/builtin/model")),
    1024,
  );
  const wrong = answers.samples.map(() => "?"), right = answers.samples.map(({ output }) => output);
  const ofNew = answers.describe(wrong, right, 0), ofResumed = answers.describe(right, wrong, 15);
  assert.match(ofNew, /^Held-out prompts, before and after:\n/);
  assert.match(ofNew, /\nRight answers: 0 of 12 before, 12 of 12 after\.$/);
  assert.match(ofResumed, /^Held-out prompts, before step 16 and after:\n/);
  assert.match(ofResumed, /\nRight answers: 12 of 12 before step 16, 0 of 12 after\.$/);
});
