/** Data files as people have them, from end to end: read right, or refused in one sentence. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { exists, refused, succeeded, TemporaryFolder } from "./cli.ts";
import { lorikeetHere } from "./here.ts";
import { fixturePath } from "../fixtures.ts";
import { gpu, gpuTest } from "../kernels/harness.ts";
import { sharedPath } from "../shared.ts";

const BUILTIN = ["--model", "builtin", "--precision", "fp32"];

const birds = [
  { instruction: "What colour is a gull?", input: "", output: "A gull is white." },
  { instruction: "What does a duck eat?", input: "", output: "A duck eats plants." },
];
const json = JSON.stringify(birds);
const pretty = birds.map((bird) => JSON.stringify(bird, null, 1));
const table = ["instruction,input,output"]
  .concat(birds.map((bird) => Object.values(bird).join(","))).join("\n");

/** Files of the same two samples, and what the command says of each beyond that. */
const same: [string, string | Uint8Array, string[]][] = [
  ["list.json", json, []],
  ["lines.jsonl", birds.map((bird) => JSON.stringify(bird)).join("\n"), []],
  ["concatenated.json", pretty.join("\n"), []],
  ["commas.json", `${pretty.join(",\n")},\n`, []],
  ["train.json", JSON.stringify({ train: birds, test: [birds[0]] }), [
    'Rows of "train"; left out: "test" (1 row)',
  ]],
  ["empty.json", JSON.stringify([...birds, { ...birds[0], output: "" }]), [
    "1 sample left out: its output is empty",
  ]],
  ["more.json", JSON.stringify(birds.map((bird, id) => ({ ...bird, id, text: "x" }))), [
    "Fields not used: id (2 rows), text (2 rows)",
  ]],
  [
    "dolly.json",
    JSON.stringify(birds.map(({ instruction, input: context, output: response }) => {
      return { instruction, context, response };
    })),
    [],
  ],
  ["rows.csv", table, []],
  ["rows.tsv", table.replaceAll(",", "\t"), []],
  ["list.json.gz", Uint8Array.from(gzipSync(json)), []],
];

interface Score {
  nll_per_token: number;
  tokens: number;
}

/** What `score --json` prints, and the indented lines on the data before it. */
async function score(data: string, ...args: string[]): Promise<{ result: Score; notes: string[] }> {
  const outcome = await lorikeetHere("score", [...BUILTIN, "--data", data, "--json", ...args]);
  const notes = outcome.stderr.split("\n").filter((line) => line.startsWith("  "));
  return { result: JSON.parse(succeeded(outcome)), notes: notes.map((note) => note.trim()) };
}

gpuTest("cli data: every layout of the same samples has the same score", async () => {
  using folder = new TemporaryFolder();
  const results: Score[] = [];
  for (const [name, content, expected] of same) {
    const { result, notes } = await score(folder.file(name, content));
    assert.deepEqual(notes, expected, name);
    results.push(result);
  }
  for (const result of results) assert.deepEqual(result, results[0]);
});

gpuTest(
  "cli data: numbers, a history, plain pairs and text are trained on, and shown as they are",
  async () => {
    using folder = new TemporaryFolder();
    const rows = [
      {
        instruction: "And now?",
        input: "",
        output: 4,
        system: "You count.",
        history: [["One?", "One."]],
      },
      { prompt: "a gull", completion: " is white." },
      { text: "<s>A duck eats plants.</s>" },
    ];
    const data = folder.file("rows.jsonl", rows.map((row) => JSON.stringify(row)).join("\n"));
    const run = ["--max-steps", "1", "--no-shuffle", "--output", folder.file("run")];
    const stdout = succeeded(await lorikeetHere("train", [...BUILTIN, "--data", data, ...run]));
    assert.match(stdout, /^Data: .*rows\.jsonl, 3 samples, \d+ tokens$/m);
    const shown = "[⟨<s>⟩You count.\n\n### Instruction:\nOne?\n\n### Response:One.\n\n" +
      "### Instruction:\nAnd now?\n\n### Response:]4⟨</s>⟩\n";
    assert.ok(stdout.includes(shown), stdout);
    // Control tokens that are written in a text are tokens: nothing is doubled.
    const written = folder.file("text.jsonl", JSON.stringify(rows[2]));
    const bare = folder.file("bare.jsonl", '{"text": "A duck eats plants."}');
    assert.deepEqual((await score(written)).result, (await score(bare)).result);
  },
);

gpuTest("cli data: Parquet is scored as its rows in JSON", async () => {
  using folder = new TemporaryFolder();
  const rows = JSON.parse(Deno.readTextFileSync(fixturePath("rows/rows.json"))).snappy;
  const written = folder.file("rows.json", JSON.stringify(rows));
  const read = await score(fixturePath("rows/snappy.parquet"));
  assert.deepEqual(read, await score(written));
  assert.deepEqual(read.notes, ["Fields not used: id (5 rows)"]);
});

gpuTest(
  "cli data: generate reads the same files, and control tokens count in raw prompts alone",
  async () => {
    using folder = new TemporaryFolder();
    const few = [...BUILTIN, "--max-tokens", "2", "--json"];
    const prompts = async (...args: string[]): Promise<number[][]> => {
      const stdout = succeeded(await lorikeetHere("generate", [...few, ...args]));
      return stdout.trimEnd().split("\n").map((line) => JSON.parse(line).prompt_ids);
    };
    const questions = [
      { instruction: "Hi </s>", input: "there", system: "You sing.", history: [["a", "b"]] },
      { prompt: "<s>Hi </s>" },
    ];
    const data = folder.file("questions.json", JSON.stringify(questions));
    const [alpaca, raw] = await prompts("--data", data);
    const [none, same] = await prompts("--data", data, "--template", "none");
    assert.ok(!alpaca.includes(2) && !none.includes(2), "letters in Alpaca's fields");
    assert.deepEqual([raw[0], raw.lastIndexOf(1), raw.at(-1)], [1, 0, 2]);
    assert.deepEqual(same, raw);
    const [given] = await prompts("--template", "none", "--prompt", "<s>Hi </s>");
    assert.deepEqual(given, raw);
    const [letters] = await prompts("--prompt", "<s>Hi </s>");
    assert.ok(letters.lastIndexOf(1) === 0 && !letters.includes(2), "letters in a template");
  },
);

/** Files that are refused, with the row and what was expected. */
const refusals: [string, string, RegExp][] = [
  [
    "object.json",
    '[{"instruction": "a", "input": {"x": 1}, "output": "b"}]',
    /row 1 .*: input is an o/,
  ],
  [
    "messages.jsonl",
    '{"messages": [{"role": "user"}]}',
    /row 1 .*: messages, message 1: it has no content; expected text/,
  ],
  [
    "sharegpt.json",
    '[{"id": 1, "conversations": []}]',
    /row 1 .*: conversations has no message; expected at least one/,
  ],
  [
    "history.json",
    '[{"instruction": "a", "output": "b", "history": ["c"]}]',
    /row 1 .*history's turn 1/,
  ],
  [
    "question.json",
    '[{"question": "a", "answer": "b"}]',
    /row 1 .* has the fields "question", "answer/,
  ],
  [
    "splits.json",
    '{"a": [{"text": "a"}], "b": [{"text": "b"}]}',
    /several lists of rows, "a", "b"; exp/,
  ],
  ["short.csv", "instruction,output\na\n", /row 1 \(line 2\) has 1 values; expected 2/],
  ["cut.parquet", "PAR1....PAR1", /is truncated or damaged: it can't be read as Parquet/],
];
for (const [name, content, message] of refusals) {
  Deno.test(`cli data: ${name} is refused`, async () => {
    using folder = new TemporaryFolder();
    const data = ["--model", "builtin", "--data", folder.file(name, content)];
    refused(await lorikeetHere("score", data), 1, message);
    if (name !== "object.json" && name !== "cut.parquet") return;
    refused(await lorikeetHere("generate", data), 1, message);
    const output = folder.file("output");
    refused(await lorikeetHere("train", [...data, "--output", output]), 1, message);
    assert.ok(!exists(output), "an output folder was left behind");
  });
}

const cases = join(sharedPath(".."), "cases/data");
const hasCases = exists(cases);

/** Of the shared cases, samples of those that are read, and why the others are not. */
const CASES: Record<string, number | RegExp> = {
  "commas.json": 3,
  "concat.json": 3,
  "empty_output.json": 3,
  "history.json": 1,
  "number.json": 1,
  "pc.jsonl": 1,
  "response.json": 1,
  "rows.csv": 1,
  "rows.json.gz": 3,
  "text_control.jsonl": 2,
  "wrapper.json": 3,
  "messages.jsonl": 2,
  "object.json": /row 1 .*: input is an object; expected text/,
  "sharegpt.json": 1,
};
const reason = !hasCases
  ? " (no shared data; LORIKEET_SHARED names its folder)"
  : gpu
  ? ""
  : " (ignored: no GPU adapter)";
Deno.test({
  name: `cli data: no shared case ends in silence${reason}`,
  ignore: reason !== "",
  async fn() {
    const names = Array.from(Deno.readDirSync(cases), ({ name }) => name).sort();
    assert.deepEqual(names, Object.keys(CASES).sort());
    for (const [name, expected] of Object.entries(CASES)) {
      const outcome = await lorikeetHere("score", [...BUILTIN, "--data", join(cases, name)]);
      if (typeof expected === "number") {
        succeeded(outcome);
        const count = expected === 1 ? "1 sample" : `${expected} samples`;
        assert.ok(outcome.stderr.includes(`${name}, ${count}, `), outcome.stderr);
      } else refused(outcome, 1, expected);
    }
  },
});
