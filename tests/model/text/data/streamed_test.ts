/** Large data files, whose samples are tokenised when they are asked for. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { UserError } from "../../../../kernels/errors.ts";
import { type DatasetOptions, loadDataset } from "../../../../model/text/data/dataset.ts";
import type { SampleList } from "../../../../model/text/data/sample_list.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { ROOT } from "../../../../scripts/compile.ts";
import { TemporaryFolder, TOKENIZER } from "../../../cli/cli.ts";
import { BLOCK_ROWS, lines, writeLarge } from "../../../large_data.ts";

const tokenizer = await loadTokenizer(TOKENIZER);
const MEGABYTE = 1 << 20;

/** Loads a data file, and what is said of it. */
async function load(data: string, options: Partial<DatasetOptions> = {}) {
  const said: string[] = [], say = (line: string) => void said.push(line);
  const limits = { tokenizerPath: TOKENIZER, max_length: 256, context: 4096 };
  const list = await loadDataset(tokenizer, { data, ...limits, say, streams: true, ...options });
  return { list, said };
}

/** Asserts that samples at some places are those of a list that is all tokenised, which repeats itself. */
function same(list: SampleList, expected: SampleList, places: readonly number[]): void {
  for (const i of places) {
    assert.deepEqual(list.at(i), expected.at(i % expected.length), `sample ${i}`);
  }
}

Deno.test("streamed: the first rows of a large file, in any order, as those of a small file", async () => {
  using folder = new TemporaryFolder();
  const large = join(folder.path, "large.jsonl"), samples = 30_000;
  writeLarge(large, 65 * MEGABYTE);
  const { list: block } = await load(folder.file("small.jsonl", lines(BLOCK_ROWS)));
  assert.equal(block.mostTokens, undefined);
  const { list, said } = await load(large, { samples });
  assert.deepEqual([list.length, list.mostTokens], [samples, 256]);
  assert.match(said[0], /large\.jsonl, 30000 samples, \d+\.\d MB$/);
  assert.match(said[2], /^ {2}Of the rows, \d+ were looked at; the others are while the run goes/);
  same(list, block, [29_999, 0, 12_345, 12_346, 12_347, 7, 20_000, 1999, 2000]);
  assert.equal(list.at(samples), undefined);
  // Of a few rows of it, all are tokenised.
  const { list: few } = await load(large, { samples: 100 });
  assert.deepEqual([few.length, few.mostTokens], [100, undefined]);
  same(few, block, [0, 99]);
  list[Symbol.dispose]?.();
});

Deno.test("streamed: packed files and tables go through a temporary file", async () => {
  using folder = new TemporaryFolder();
  // Digits that gzip can't pack much.
  const noise = (i: number) =>
    Array.from({ length: 40 }, (_, k) => Math.imul(i * 40 + k + 1, 0x9e3779b1) >>> 0).join(" ");
  const rows = Array.from(
    { length: 100_000 },
    (_, i) => ({ instruction: `${i}`, output: noise(i) }),
  );
  const json = (some: typeof rows) => some.map((row) => JSON.stringify(row)).join("\n");
  const table = rows.map(({ instruction, output }) => `${instruction},"${output}"\n`).join("");
  const { list: head } = await load(folder.file("head.jsonl", json(rows.slice(0, 50))));
  const samples = 12_000, texts = [json(rows), `instruction,output\n${table}`];
  for (const [i, text] of texts.entries()) {
    const packed = folder.file(`${i}.gz`, Uint8Array.from(gzipSync(text, { level: 1 })));
    assert.ok(Deno.statSync(packed).size > 17 * MEGABYTE);
    const { list, said } = await load(packed, { samples });
    assert.deepEqual([list.length, said.length, list.mostTokens], [samples, 2, 256]);
    for (const i of [0, 49, 1]) assert.deepEqual(list.at(i), head.at(i));
    assert.match(tokenizer.decode([...list.at(11_999)?.[0].ids ?? []]), /Instruction:\n11999\n/);
    list[Symbol.dispose]?.();
  }
});

const LARGE = 65 * MEGABYTE;

Deno.test("streamed: what is wrong with a row that was not looked at is told with its line", async () => {
  using folder = new TemporaryFolder();
  const faults: [name: string, text: string, RegExp][] = [
    ["no JSON", '{"instruction": "a" "output": "b"}\n', /, line \d+ \(byte \d+\) is not JSON \(/],
    [
      "other fields",
      '{"question": "a"}\n',
      /, line \d+ \(byte \d+\) has the fields "question"; exp/,
    ],
  ];
  for (const [name, text, message] of faults) {
    const path = join(folder.path, `${name}.jsonl`);
    const { rows, before } = writeLarge(path, LARGE, { text, after: 9 * MEGABYTE });
    const { list } = await load(path);
    assert.equal(list.length, rows + 1);
    const told = (error: unknown) => {
      assert.ok(error instanceof UserError && error.message.includes(`, line ${before + 1} (`));
      assert.match(error.message, message);
      return true;
    };
    assert.throws(() => list.at(before), told);
    assert.throws(() => {
      for (let i = 0; i < 5; i++) list.lookAhead?.();
    }, told);
    list[Symbol.dispose]?.();
  }
  const path = join(folder.path, "cut.jsonl"), text = '{"instruction": "a", "outp';
  const { rows } = writeLarge(path, LARGE, { text, after: LARGE });
  const message = `is truncated: a string does not end (row ${rows + 1}, line ${rows + 1})`;
  await assert.rejects(
    load(path),
    (error) => error instanceof UserError && error.message.includes(message),
  );
});

Deno.test("streamed: a row that has nothing to learn is none; contents are told apart", async () => {
  using folder = new TemporaryFolder();
  const outputs = [" ", "b", "c"], paths = outputs.map((_, i) => join(folder.path, `${i}.jsonl`));
  const odd = outputs.map((output, i) => {
    const text = `${JSON.stringify({ instruction: "a", output })}\n`;
    return writeLarge(paths[i], LARGE, { text, after: 9 * MEGABYTE }).before;
  });
  const lists = await Promise.all(paths.map(async (path) => (await load(path)).list));
  assert.deepEqual(lists.map((list, i) => list.at(odd[i])?.length), [undefined, 1, 1]);
  const sums = lists.map(({ contents }) => contents?.sha256);
  assert.equal(new Set(sums).size, 3);
  const { list: again } = await load(paths[1]);
  assert.equal(again.contents?.sha256, sums[1]);
  for (const list of [...lists, again]) list[Symbol.dispose]?.();
});

Deno.test({
  name: "streamed: 300 MB of rows take no more than 160 MB of memory",
  ignore: Deno.build.os !== "linux",
  async fn() {
    using folder = new TemporaryFolder();
    const path = join(folder.path, "large.jsonl"), { rows } = writeLarge(path, 300 * MEGABYTE);
    const child = fileURLToPath(new URL("streamed_child.ts", import.meta.url));
    const flags = ["run", "--quiet", "--no-check", "--config", join(ROOT, "deno.json")];
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [...flags, "--allow-all", child, path, TOKENIZER],
    }).output();
    const text = new TextDecoder();
    assert.equal(code, 0, text.decode(stderr));
    const { samples, before, peak } = JSON.parse(text.decode(stdout));
    assert.equal(samples, rows);
    assert.ok(peak - before < 160, `${before} MB before, ${peak} MB at most`);
  },
});
