import assert from "node:assert/strict";
import { UserError } from "../../../kernels/errors.ts";
import { loadDataset } from "../../../model/text/dataset.ts";
import { encodeSample } from "../../../model/text/prompt.ts";
import { loadTokenizer } from "../../../model/text/tokenizer.ts";
import { fixturePath } from "../../fixtures.ts";

const tokenizer = await loadTokenizer(fixturePath("tiny_tokenizer.model"));

Deno.test("dataset: cuts at the shorter limit, leaves out what has no target left, and says so", async () => {
  const samples = [
    { instruction: "a", input: "", output: "b" },
    { instruction: "a", input: "", output: "b c d e f g" },
    { instruction: "a and much more of it".repeat(4), input: "", output: "b" },
  ];
  const [short, long, lost] = samples.map((sample) =>
    encodeSample(tokenizer, sample, 1e6).ids.length
  );
  const limit = short + 2;
  assert.ok(limit < long && limit < lost);
  const file = await Deno.makeTempFile({ suffix: ".json" });
  try {
    await Deno.writeTextFile(file, JSON.stringify(samples));
    const load = (max_length: number, context: number, samples?: number) => {
      const said: string[] = [];
      const say = (line: string) => void said.push(line);
      const found = loadDataset(tokenizer, { data: file, samples, max_length, context, say });
      return { lengths: found.map(({ ids }) => ids.length), said };
    };
    for (const { lengths, said } of [load(limit, 9999), load(9999, limit)]) {
      assert.deepEqual(lengths, [short, limit]);
      assert.deepEqual(said, [
        `Data: ${file}, 2 samples, ${short + limit} tokens`,
        `  1 sample cut at ${limit} tokens`,
        `  1 sample left out: nothing of the output is within ${limit} tokens`,
      ]);
    }
    assert.deepEqual(load(9999, 9999, 1), {
      lengths: [short],
      said: [`Data: ${file}, 1 sample, ${short} tokens`],
    });
    assert.throws(
      () => load(9, 9999),
      (error) => error instanceof UserError && error.message.includes(file),
    );
  } finally {
    await Deno.remove(file);
  }
});
