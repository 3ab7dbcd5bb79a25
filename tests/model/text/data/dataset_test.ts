import assert from "node:assert/strict";
import { UserError } from "../../../../kernels/errors.ts";
import { loadDataset } from "../../../../model/text/data/dataset.ts";
import { type LongSamples, splitIds } from "../../../../model/text/data/group_encoder.ts";
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
      return { lengths: [...found].flat().map(({ ids }) => ids.length), said };
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

Deno.test("dataset: long samples are cut, dropped or, as plain text, split", async () => {
  using folder = new TemporaryFolder();
  const words = (count: number) => Array.from({ length: count }, (_, i) => `word${i}`).join(" ");
  const rows = [{ text: words(120) }, { text: "short" }, { instruction: "a", output: words(120) }];
  const data = folder.file("rows.json", JSON.stringify(rows));
  const load = async (long_samples: LongSamples, max_length: number) => {
    const said: string[] = [], say = (line: string) => void said.push(line);
    const limits = { max_length, context: 4096, long_samples };
    const list = await loadDataset(tokenizer, { data, tokenizerPath, ...limits, say });
    return { samples: [...list].flat(), notes: said.slice(1) };
  };
  const whole = (await load("cut", 4096)).samples, max = 200;
  assert.ok(whole[0].ids.length > 2 * max && whole[2].ids.length > max);
  const cut = await load("cut", max);
  assert.deepEqual(cut.samples.map(({ ids }) => ids.length), [max, whole[1].ids.length, max]);
  assert.deepEqual(cut.notes, [`  2 samples cut at ${max} tokens`]);
  const dropped = await load("drop", max);
  assert.deepEqual(dropped.samples, [whole[1]]);
  assert.deepEqual(dropped.notes, [`  2 samples left out: longer than ${max} tokens`]);
  const split = await load("split", max), pieces = split.samples.slice(0, -2);
  assert.deepEqual(split.samples.slice(-2).map(({ ids }) => ids.length), [
    whole[1].ids.length,
    max,
  ]);
  assert.ok(pieces.every(({ ids, truncated }) => ids.length <= max && !truncated));
  // Each piece begins with BOS, and all ids after it are targets.
  assert.deepEqual(pieces.flatMap(({ ids }) => [...ids.subarray(1)]), [
    ...whole[0].ids.subarray(1),
  ]);
  assert.deepEqual(split.notes, [
    `  1 sample cut at ${max} tokens`,
    `  1 sample split into ${pieces.length} of at most ${max} tokens`,
  ]);
});

Deno.test("dataset: where nothing is left to learn, the reason is the length only if it is", async () => {
  using folder = new TemporaryFolder();
  const load = (messages: object[], max_length: number) => {
    const data = folder.file("talk.json", JSON.stringify([{ messages }]));
    const limits = { template: "chatml", max_length, context: 4096, say: () => {} };
    return loadDataset(tokenizer, { data, tokenizerPath, ...limits });
  };
  const question = { role: "user", content: "Why?" };
  await assert.rejects(
    load([question], 999),
    /: nothing is left to learn \(1 sample left out: no message by the assistant is to be learnt\)$/,
  );
  const answer = { role: "assistant", content: "So." };
  await assert.rejects(
    load([question, answer], 4),
    /: no sample has any of its output within max_length 4$/,
  );
});

Deno.test("split text: every id but the first is a target once, with BOS and without", () => {
  for (const prefix of [[], [7], [7, 8]]) {
    for (let length = 3; length < 40; length++) {
      const ids = Uint32Array.from({ length }, (_, i) => prefix[i] ?? 100 + i);
      for (const most of [3, 4, 7, 16]) {
        const pieces = splitIds(ids, prefix, most),
          learnt = pieces.flatMap(({ ids, targets }) =>
            targets.flatMap(([begin, end]) => [...ids.subarray(begin, end)])
          );
        const lead = Math.max(1, prefix.length);
        assert.deepEqual(learnt, [...ids.subarray(lead)], `${length} ids in pieces of ${most}`);
        assert.ok(pieces.every(({ ids }) => ids.length <= most));
        if (prefix.length > 0) {
          assert.ok(pieces.every(({ ids }) => prefix.every((id, i) => ids[i] === id)));
        }
      }
    }
  }
});
