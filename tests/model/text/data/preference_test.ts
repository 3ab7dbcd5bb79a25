/** Rows of preferences: which answers they have, how these are encoded, and what is wrong with them. */
import assert from "node:assert/strict";
import { UserError } from "../../../../kernels/errors.ts";
import { type DatasetOptions, loadDataset } from "../../../../model/text/data/dataset.ts";
import type { Judgement } from "../../../../model/text/data/formats/preference.ts";
import { loadGroups } from "../../../../model/text/data/load.ts";
import { encodeSample, supervisedTokens } from "../../../../model/text/prompt.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { TemporaryFolder } from "../../../cli/cli.ts";
import { fixturePath, readFixture } from "../../../fixtures.ts";

const tokenizerPath = fixturePath("tiny_tokenizer.model");
const tokenizer = await loadTokenizer(tokenizerPath);

/** The preferences of a file with this text, or with these rows as JSON. */
async function load(
  rows: unknown[] | string,
  judgement: Judgement = "pairs",
) {
  using folder = new TemporaryFolder();
  const text = typeof rows === "string" ? rows : JSON.stringify(rows);
  return await loadGroups(folder.file("rows", text), { judgement });
}

const chosen = (sample: object) => ({ part: "chosen", sample });
const rejected = (sample: object) => ({ part: "rejected", sample });
const raw = (prompt: string, completion: string) => ({ prompt, completion });

Deno.test("preferences: pairs beside a prompt, in Alpaca's fields, and with the prompt in both", async () => {
  const { groups, notes } = await load([
    { prompt: "Q:", chosen: " yes", rejected: " no", score: 1 },
    { instruction: "Ask", input: "Bird", chosen: "A", rejected: "B" },
    { chosen: "Human: hi Assistant: good day", rejected: "Human: hi Assistant: go" },
    { chosen: "Q: 🦜🦜", rejected: "Q: 🦜🐦" },
  ]);
  const ask = { instruction: "Ask", input: "Bird" };
  assert.deepEqual(groups, [
    [chosen(raw("Q:", " yes")), rejected(raw("Q:", " no"))],
    [chosen({ ...ask, output: "A" }), rejected({ ...ask, output: "B" })],
    [chosen(raw("Q: 🦜", "🦜")), rejected(raw("Q: 🦜", "🐦"))],
  ]);
  assert.deepEqual(notes, [
    "Fields not used: score (1 row)",
    "1 pair left out: its rejected is empty",
  ]);
});

Deno.test("preferences: a space before what differs belongs to the answers, as in TRL", async () => {
  const { groups } = await load([{ chosen: "Q: a b", rejected: "Q: a c" }]);
  assert.deepEqual(groups, [[chosen(raw("Q: a", " b")), rejected(raw("Q: a", " c"))]]);
});

Deno.test("preferences: labels in every way of writing them, and pairs taken apart", async () => {
  const good = chosen(raw("p", "a")), bad = rejected(raw("p", "a"));
  const row = { prompt: "p", completion: "a" };
  for (const label of [true, 1, "true", "True"]) {
    assert.deepEqual((await load([{ ...row, label }], "labels")).groups, [[good]]);
    assert.deepEqual((await load([{ ...row, kto_tag: label }], "labels")).groups, [[good]]);
  }
  for (const label of [false, 0, "false", "False"]) {
    assert.deepEqual((await load([{ ...row, label }], "labels")).groups, [[bad]]);
  }
  const table = await load("prompt,completion,label\np,a,False\np,a,1\n", "labels");
  assert.deepEqual(table, { groups: [[bad], [good]], notes: [] });
  const alpaca = await load([{ instruction: "i", output: "o", label: true }], "labels");
  assert.deepEqual(alpaca.groups, [[chosen({ instruction: "i", input: "", output: "o" })]]);
  const apart = await load([{ prompt: "p", chosen: "a", rejected: " " }], "labels");
  assert.deepEqual(apart, {
    groups: [[good]],
    notes: ["1 sample left out: its rejected is empty"],
  });
});

const pair = { prompt: "p", chosen: "a", rejected: "b" };
const faults: [string, unknown, RegExp, Judgement?][] = [
  ["text", "x", / is text; expected an object with chosen and rejected/],
  [
    "no rejected",
    { prompt: "p", chosen: "a" },
    /: rejected is missing; expected chosen and rejected/,
  ],
  [
    "a misspelt name",
    { prompt: "p", chosen: "a", rejectd: "b" },
    /: rejected is missing; .*rejectd/,
  ],
  [
    "a null, which is no other name",
    { ...pair, chosen: null },
    /: chosen is missing; expected chosen and rejected, beside prompt or instruction$/,
  ],
  ["an object", { ...pair, chosen: { a: "b" } }, /: chosen is an object; expected text or a list/],
  [
    "a list and a text",
    { ...pair, chosen: ["a"] },
    /: one of chosen and rejected is a list .* alike$/,
  ],
  [
    "no prompt",
    { chosen: "a", rejected: "b" },
    /: prompt is missing, and chosen and rejected don't/,
  ],
  [
    "labels for pairs",
    { prompt: "p", completion: "a", label: true },
    /: chosen is missing; expected/,
  ],
  [
    "no label",
    { prompt: "p", completion: "a" },
    / has neither a label nor chosen and rejected;/,
    "labels",
  ],
  [
    "a label of another kind",
    { ...raw("p", "a"), label: "good" },
    /: label is "good"; expected true/,
    "labels",
  ],
  [
    "a label that is a list",
    { ...raw("p", "a"), label: [1] },
    /: label is a list; expected true/,
    "labels",
  ],
  [
    "a label without an answer",
    { prompt: "p", label: 1 },
    /: completion is missing; expected/,
    "labels",
  ],
];
for (const [what, row, message, judgement = "pairs"] of faults) {
  Deno.test(`preferences: ${what} is refused by the row's number`, async () => {
    const first = judgement === "pairs" ? pair : { ...raw("p", "a"), label: true };
    await assert.rejects(load([first, row], judgement), (error: Error) => {
      assert.ok(error instanceof UserError, String(error));
      assert.match(error.message, /rows", row 2 \(line 1\)/);
      assert.match(error.message, message);
      return true;
    });
  });
}

Deno.test("preferences: sides are encoded as prompt and completion, and a pair without one is left out", async () => {
  const rows = [
    { prompt: "a b", chosen: " c", rejected: " d e f g h i j" },
    { prompt: "a b c d e f g h i j k l m n o p q r", chosen: " c", rejected: " d" },
  ];
  using folder = new TemporaryFolder();
  const data = folder.file("rows.json", JSON.stringify(rows)), said: string[] = [];
  const [better, worse] = [" c", " d e f g h i j"].map((completion) =>
    encodeSample(tokenizer, { prompt: "a b", completion }, 1e6)
  );
  const max_length = better.ids.length + 1;
  assert.ok(worse.ids.length > max_length);
  const options = { data, tokenizerPath, judgement: "pairs", max_length, context: 999 } as const;
  const groups = await loadDataset(tokenizer, { ...options, say: (line) => void said.push(line) });
  assert.equal(groups.length, 1);
  const [first, second] = groups.at(0) ?? [];
  assert.deepEqual(first, { ...better, part: "chosen" });
  assert.deepEqual([...second.ids], [...worse.ids.subarray(0, max_length)]);
  assert.ok(second.truncated && supervisedTokens(second) > 0 && second.part === "rejected");
  assert.deepEqual(said, [
    `Data: ${data}, 1 pair, ${better.ids.length + max_length} tokens`,
    `  1 pair cut at ${max_length} tokens`,
    `  1 pair left out: nothing of an answer is within ${max_length} tokens`,
  ]);
  await assert.rejects(
    loadDataset(tokenizer, { ...options, max_length: 2, say: () => {} }),
    /no pair has any of its answers within max_length 2$/,
  );
});

const user = (content: string) => ({ role: "user", content });
const assistant = (content: string) => ({ role: "assistant", content });

/** What of a sample of these rows is read, and what is learnt, as ChatML writes it. */
async function conversation(rows: unknown[], options: Partial<DatasetOptions> = {}) {
  using folder = new TemporaryFolder();
  const data = folder.file("rows.json", JSON.stringify(rows));
  const groups = await loadDataset(tokenizer, {
    data,
    tokenizerPath,
    judgement: "pairs",
    template: "chatml",
    max_length: 999,
    context: 999,
    say: () => {},
    ...options,
  });
  return Array.from(groups, (group) =>
    group.map(({ ids, targets, part }) => {
      const text = (from: number, to: number) => tokenizer.decode([...ids.subarray(from, to)]);
      return { part, prompt: text(0, targets[0][0]), learnt: targets.map((span) => text(...span)) };
    }));
}

Deno.test("preferences: messages beside a prompt, in whole conversations, and with the prompt as text", async () => {
  const asked = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
  const expected = [
    { part: "chosen", prompt: asked, learnt: ["good day<|im_end|>\n"] },
    { part: "rejected", prompt: asked, learnt: ["no<|im_end|>\n"] },
  ];
  const answers = { chosen: [assistant("good day")], rejected: [assistant("no")] };
  const whole = {
    chosen: [user("hi"), ...answers.chosen],
    rejected: [user("hi"), ...answers.rejected],
  };
  const [good] = answers.chosen, [bad] = answers.rejected;
  const rows = [
    { prompt: [user("hi")], ...answers },
    whole,
    { ...whole, prompt: "hi" },
    // As LLaMA-Factory has them.
    {
      conversations: [{ from: "human", value: "hi" }],
      chosen: { from: "gpt", value: good.content },
      rejected: { from: "gpt", value: bad.content },
    },
    { messages: [user("hi")], chosen: good, rejected: bad },
    // As OpenAI has them.
    {
      input: { messages: [user("hi")], tools: [], parallel_tool_calls: true },
      preferred_output: answers.chosen,
      non_preferred_output: answers.rejected,
    },
  ];
  assert.deepEqual(await conversation(rows), rows.map(() => expected));
  const [[turns]] = await conversation([
    {
      prompt: [user("hi")],
      chosen: [assistant("a"), user("b"), assistant("c")],
      rejected: [assistant("d")],
    },
  ]);
  const [first, last] = ["a<|im_end|>\n", "c<|im_end|>\n"];
  const between = "<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n";
  assert.deepEqual(turns, { part: "chosen", prompt: asked, learnt: [first + between + last] });
  const [[own]] = await conversation([
    {
      prompt: [user("hi")],
      chosen: [assistant("a"), user("b"), assistant("c")],
      rejected: [assistant("d")],
    },
  ], { train_on: "assistant" });
  assert.deepEqual(own, { part: "chosen", prompt: asked, learnt: [first, last] });
  const labelled = [{ prompt: [user("hi")], completion: answers.chosen, label: true }];
  assert.deepEqual(await conversation(labelled, { judgement: "labels" }), [[expected[0]]]);
  const [[bare]] = await conversation([{ messages: whole.rejected, kto_tag: false }], {
    judgement: "labels",
  });
  assert.deepEqual([bare.part, bare.prompt], ["rejected", asked]);
});

Deno.test("preferences: a field whose messages are the prompt is not told of as unused", async () => {
  const answers = { chosen: assistant("a"), rejected: assistant("b") };
  for (const field of ["prompt", "messages", "conversations"]) {
    const rows = [{ [field]: [user("hi")], ...answers, id: 1 }];
    for (const judgement of ["pairs", "labels"] as const) {
      assert.deepEqual((await load(rows, judgement)).notes, ["Fields not used: id (1 row)"]);
    }
  }
});

Deno.test("preferences: messages that are no answer are refused by the row's own names", async () => {
  const others = [{ chosen: [user("a"), assistant("b")], rejected: [user("c"), assistant("d")] }];
  await assert.rejects(conversation(others), /row 1 \(line 1\): prompt is missing, and chosen and/);
  const rows = [{
    chosen: [user("a"), user("b"), assistant("c")],
    rejected: [user("a"), assistant("b"), assistant("d")],
  }];
  await assert.rejects(
    conversation(rows),
    /row 1 \(line 1\): chosen begins with a message by "user"/,
  );
  const empty = [{ prompt: [user("a")], chosen: [], rejected: [assistant("d")] }];
  await assert.rejects(conversation(empty), /row 1 \(line 1\): chosen has no message; expected/);
});

Deno.test("preferences: ids and targets are those of TRL's trainers, text and messages", async () => {
  const { template, encoded } = readFixture("preferences.json");
  using folder = new TemporaryFolder();
  const path = folder.file("template.jinja", template);
  for (const { rows, ids } of encoded) {
    const groups = await loadDataset(tokenizer, {
      data: folder.file("rows.json", JSON.stringify(rows)),
      tokenizerPath,
      judgement: "label" in rows[0] ? "labels" : "pairs",
      template: path,
      max_length: 999,
      context: 999,
      say: () => {},
    });
    const expected = ids.map(({ prompt_ids: prompt, ...answers }) =>
      Object.values(answers).map((answer) => ({
        ids: [...prompt, ...answer],
        targets: [[prompt.length, prompt.length + answer.length]],
      }))
    );
    const actual = Array.from(
      groups,
      (group) => group.map(({ ids, targets }) => ({ ids: [...ids], targets })),
    );
    assert.deepEqual(actual, expected, JSON.stringify(rows));
  }
});
