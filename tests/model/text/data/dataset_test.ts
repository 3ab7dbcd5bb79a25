import assert from "node:assert/strict";
import { UserError } from "../../../../kernels/errors.ts";
import { loadDataset } from "../../../../model/text/data/dataset.ts";
import { encodeSample } from "../../../../model/text/prompt.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { TemporaryFolder } from "../../../cli/cli.ts";
import { fixturePath } from "../../../fixtures.ts";

const tokenizerPath = fixturePath("tiny_tokenizer.model");
const tokenizer = await loadTokenizer(tokenizerPath);

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
    const load = async (max_length: number, context: number, samples?: number) => {
      const said: string[] = [];
      const say = (line: string) => void said.push(line);
      const found = await loadDataset(tokenizer, {
        data: file,
        tokenizerPath,
        samples,
        max_length,
        context,
        say,
      });
      return { lengths: found.flat().map(({ ids }) => ids.length), said };
    };
    for (const { lengths, said } of [await load(limit, 9999), await load(9999, limit)]) {
      assert.deepEqual(lengths, [short, limit]);
      assert.deepEqual(said, [
        `Data: ${file}, 2 samples, ${short + limit} tokens`,
        `  1 sample cut at ${limit} tokens`,
        `  1 sample left out: nothing of the output is within ${limit} tokens`,
      ]);
    }
    assert.deepEqual(await load(9999, 9999, 1), {
      lengths: [short],
      said: [`Data: ${file}, 1 sample, ${short} tokens`],
    });
    await assert.rejects(
      load(9, 9999),
      (error) => error instanceof UserError && error.message.includes(file),
    );
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("dataset: says what else the file holds, and where the prompt has all the tokens", async () => {
  using folder = new TemporaryFolder();
  const samples = [{ instruction: "a", input: "", output: "b", id: 1 }, { text: " " }];
  const file = folder.file("wrapped.json", JSON.stringify({ train: samples, test: samples }));
  const said: string[] = [];
  const load = {
    data: file,
    tokenizerPath,
    max_length: 4096,
    context: 4096,
    say: (line: string) => void said.push(line),
  };
  const [[{ ids }]] = await loadDataset(tokenizer, load);
  assert.deepEqual(said, [
    `Data: ${file}, 1 sample, ${ids.length} tokens`,
    '  Rows of "train"; left out: "test" (2 rows)',
    "  Fields not used: id (1 row)",
    "  1 sample left out: its text is empty",
  ]);
  // A tokenizer of whole texts, whose longer one is one token.
  const odd = { ...tokenizer, encodeSpecial: (text: string) => text === "ab" ? [9] : [3, 4, 5] };
  const pairs = [{ prompt: "a", completion: "b" }, { prompt: "a", completion: "c" }];
  said.length = 0;
  const data = folder.file("pairs.json", JSON.stringify(pairs));
  const [[kept]] = await loadDataset(odd, { ...load, data });
  assert.deepEqual([...kept.ids], [1, 3, 4, 5, 2]);
  assert.equal(said[1], "  1 sample left out: the prompt alone has as many tokens as the whole");
});
