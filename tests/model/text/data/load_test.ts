import assert from "node:assert/strict";
import { UserError } from "../../../../kernels/errors.ts";
import { type LoadOptions, loadSamples, parseSamples } from "../../../../model/text/data/load.ts";
import type { Sample } from "../../../../model/text/sample.ts";
import { TemporaryFolder } from "../../../cli/cli.ts";
import { fixturePath } from "../../../fixtures.ts";

const one = { instruction: "Name a bird.", input: "", output: "Lorikeet" };
const two = { instruction: "Add.", input: "1 2", output: "3" };

const load = (rows: unknown, options?: LoadOptions) =>
  parseSamples(JSON.stringify(rows), "some.json", options);

/** What a row is called, the row, and the sample that it is. */
const rows: [string, unknown, Sample][] = [
  ["Alpaca's", one, one],
  ["without an input", { instruction: "a", output: "b" }, {
    instruction: "a",
    input: "",
    output: "b",
  }],
  ["with a null for an input", { ...one, input: null }, one],
  ["with numbers", { instruction: 1, input: 2.5, output: 4 }, {
    instruction: "1",
    input: "2.5",
    output: "4",
  }],
  ["with blanks, which are kept", { ...one, output: " b\n" }, { ...one, output: " b\n" }],
  ["with a system text", { ...one, system: "Sing." }, { ...one, system: "Sing." }],
  ["with an empty system text and history", { ...one, system: " ", history: [] }, one],
  ["with nulls for both", { ...one, system: null, history: null }, one],
  ["with a history", { ...one, history: [["a", "b"], ["c", 4]] }, {
    ...one,
    history: [["a", "b"], ["c", "4"]],
  }],
  ["with a history as text, as tables have it", { ...one, history: '[["a", "b"]]' }, {
    ...one,
    history: [["a", "b"]],
  }],
  ["with an empty history as text", { ...one, history: "[]" }, one],
  ["Dolly's", { instruction: "a", context: "c", response: "b" }, {
    instruction: "a",
    input: "c",
    output: "b",
  }],
  ["with a response and Alpaca's input", { instruction: "a", input: "c", response: "b" }, {
    instruction: "a",
    input: "c",
    output: "b",
  }],
  ["TRL's", { prompt: "a", completion: " b" }, { prompt: "a", completion: " b" }],
  ["plain text", { text: "Once upon a time." }, { prompt: "", completion: "Once upon a time." }],
  ["plain text among columns without values", { instruction: null, output: null, text: "a" }, {
    prompt: "",
    completion: "a",
  }],
];
for (const [name, row, sample] of rows) {
  Deno.test(`samples: a row ${name}`, () => {
    const loaded = load([row]);
    assert.deepEqual(loaded, { samples: [sample], notes: [] });
  });
}

Deno.test("samples: rows of several kinds in one file", () => {
  const { samples } = load([one, { text: "a" }, { prompt: "b", completion: "c" }]);
  assert.deepEqual(samples, [one, { prompt: "", completion: "a" }, {
    prompt: "b",
    completion: "c",
  }]);
});

Deno.test("samples: an empty output leaves its row out, and is counted", () => {
  const empty = ["", " \n", null].map((output) => ({ ...one, output }));
  assert.deepEqual(load([...empty, two]), {
    samples: [two],
    notes: ["3 samples left out: their output is empty"],
  });
  const others = [{ text: "" }, { prompt: "a", completion: "" }, {
    instruction: "a",
    response: "",
  }];
  assert.deepEqual(load([one, ...others]).notes, [
    "1 sample left out: its text is empty",
    "1 sample left out: its completion is empty",
    "1 sample left out: its output is empty",
  ]);
  assert.throws(
    () => load(empty),
    /^UserError: data file "some.json": nothing is left to learn \(3 samples left out: their output/,
  );
});

Deno.test("samples: fields without a use are named once with their rows", () => {
  const { notes } = load([
    { ...one, id: 1, text: "rendered", tags: ["a"], "": "x" },
    { ...two, id: 2, text: null, context: "not the input" },
  ]);
  assert.deepEqual(notes, [
    'Fields not used: id (2 rows), text (1 row), tags (1 row), "" (1 row), context (1 row)',
  ]);
  const many = Object.fromEntries(Array.from({ length: 13 }, (_, i) => [`f${i}`, i]));
  assert.match(load([{ ...one, ...many }]).notes[0], /, f9 \(1 row\), and 3 more$/);
});

Deno.test("samples: a limit counts rows, of which the others aren't even checked", () => {
  assert.deepEqual(load([one, 3], { limit: 1 }).samples, [one]);
  assert.deepEqual(load([one, two], { limit: 5 }).samples, [one, two]);
  const { samples, notes } = load([{ ...one, output: "" }, one, two], { limit: 2 });
  assert.deepEqual(samples, [one]);
  assert.deepEqual(notes, ["1 sample left out: its output is empty"]);
});

Deno.test("samples: questions need no output where none is asked for", () => {
  const text = [{ instruction: "Why?" }, { ...one, output: { any: 1 } }, { prompt: "So" }];
  assert.throws(() => load(text), /row 1 \(line 1\): output is missing; expected text/);
  assert.deepEqual(load(text, { outputs: false }), {
    samples: [
      { instruction: "Why?", input: "", output: "" },
      { ...one, output: "" },
      { prompt: "So", completion: "" },
    ],
    notes: [],
  });
});

/** What is wrong with a row, the row, and what the message says after its place. */
const faults: [string, unknown, RegExp][] = [
  ["text", "x", / is text; expected an object with instruction and output/],
  ["null", null, / is null; expected an object/],
  ["a list", [one], / is a list; expected an object/],
  ["an empty object", {}, / is empty; expected instruction and output \(Alpaca\), /],
  [
    "other fields",
    { question: "a", answer: "b" },
    / has the fields "question", "answer"; expected/,
  ],
  ["no output", { instruction: "a" }, /: output is missing; expected text$/],
  ["no output but something like it", { instruction: "a", outptu: "b" }, /missing.*"outptu"\?$/],
  ["no instruction", { output: "a" }, /: instruction is missing; expected text/],
  ["a blank instruction", { ...one, instruction: " " }, /: instruction is empty; expected text/],
  ["an object for an input", { ...one, input: { x: 1 } }, /: input is an object; expected text/],
  ["a list for an output", { ...one, output: ["a"] }, /: output is a list; expected text/],
  ["a list for a system text", { ...one, system: ["a"] }, /: system is a list; expected text/],
  ["a list for text", { text: ["a"] }, /: text is a list; expected text/],
  [
    "an object for a history",
    { ...one, history: {} },
    /: history is an object; expected a list of \[/,
  ],
  [
    "words for a history",
    { ...one, history: "hi" },
    /: history is text; expected a list of \[quest/,
  ],
  [
    "messages for a history",
    { ...one, history: [{ role: "user" }] },
    /history's turn 1 is an object/,
  ],
  [
    "half a turn",
    { ...one, history: [["a", "b"], ["c"]] },
    /history's turn 2 is a list of something/,
  ],
  [
    "a turn without an answer",
    { ...one, history: [["a", null]] },
    /history's turn 1 is a list of some/,
  ],
  ["a prompt alone", { prompt: "a" }, /: completion is missing; expected text/],
  ["a completion alone", { completion: "a" }, /: prompt is missing; expected text/],
  [
    "preferences",
    { prompt: "a", chosen: "b", rejected: "c" },
    / has a preference \(chosen and rejected\); expected instruction .* objective dpo, orpo, kto or simpo/,
  ],
  [
    "a chat for a prompt and text for its completion",
    { prompt: [{ role: "user", content: "a" }], completion: "b" },
    /: completion is text, and prompt a list; expected messages in both$/,
  ],
];
for (const [name, row, message] of faults) {
  Deno.test(`samples: a row that is or has ${name} is refused by its number`, () => {
    assert.throws(() => load([one, row]), (error) => {
      assert.ok(error instanceof UserError);
      assert.ok(error.message.startsWith('data file "some.json", row 2 (line 1)'), error.message);
      assert.match(error.message, message);
      return true;
    });
  });
}

Deno.test("samples: a format that is named decides which fields are read", () => {
  const row = { ...one, prompt: "a", completion: "b", text: "c" };
  const sampleOf = (data_format: string) => load([row], { data_format }).samples[0];
  assert.deepEqual(sampleOf("auto"), one);
  assert.deepEqual(sampleOf("alpaca"), one);
  assert.deepEqual(sampleOf("prompt-completion"), { prompt: "a", completion: "b" });
  assert.deepEqual(sampleOf("text"), { prompt: "", completion: "c" });
  assert.throws(() => load([one], { data_format: "text" }), /: text is missing; expected text/);
  assert.throws(() => load([{ text: "a" }], { data_format: "alpaca" }), /: instruction is missing/);
});

Deno.test("samples: a file without rows is refused", () => {
  assert.throws(() => load([]), /data file "some.json" holds no rows; expected at least one/);
});

Deno.test("samples: the built-in ones are at least 200", async () => {
  const { samples } = await loadSamples("builtin");
  assert.ok(samples.length >= 200);
  assert.deepEqual((await loadSamples("builtin", { limit: 3 })).samples, samples.slice(0, 3));
});

Deno.test("samples: of Parquet and of a table", async () => {
  const { samples, notes } = await loadSamples(fixturePath("rows/zstd.parquet"));
  assert.deepEqual(samples[2], {
    instruction: "And now?",
    input: "",
    output: "Now three.",
    system: "You count.",
    history: [["One?", "One."], ["Two?", "Two."]],
  });
  assert.deepEqual(notes, ["Fields not used: id (5 rows)"]);
  for (
    const [name, message] of [["date", /output is an object/], ["pairs", /turn 1 is an object/]]
  ) {
    await assert.rejects(loadSamples(fixturePath(`rows/${name}.parquet`)), message as RegExp);
  }
  await assert.rejects(loadSamples(fixturePath("rows/empty.parquet")), /holds no rows/);
  await assert.rejects(
    loadSamples(fixturePath("rows/others.parquet")),
    /has the fields "question"/,
  );
  using folder = new TemporaryFolder();
  const table = folder.file(
    "a.csv",
    'id,instruction,output,history\n1,a,b,"[[""c"",""d""]]"\n2,e,,\n',
  );
  assert.deepEqual(await loadSamples(table), {
    samples: [{ instruction: "a", input: "", output: "b", history: [["c", "d"]] }],
    notes: ["Fields not used: id (2 rows)", "1 sample left out: its output is empty"],
  });
});
