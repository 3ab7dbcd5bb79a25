import assert from "node:assert/strict";
import { UserError } from "../../../kernels/errors.ts";
import { loadAlpaca, parseAlpaca } from "../../../model/text/alpaca.ts";

const one = { instruction: "Name a bird.", input: "", output: "Lorikeet" };
const two = { instruction: "Add.", input: "1 2", output: "3" };

Deno.test("alpaca: JSON array and JSON Lines are told apart by content", () => {
  assert.deepEqual(parseAlpaca(JSON.stringify([one, two], null, 2), "f"), [one, two]);
  assert.deepEqual(parseAlpaca(` \n[${JSON.stringify(one)}]\n`, "f"), [one]);
  const lines = `${JSON.stringify(one)}\r\n\n${JSON.stringify(two)}\n`;
  assert.deepEqual(parseAlpaca(lines, "f"), [one, two]);
  assert.deepEqual(parseAlpaca(JSON.stringify(one), "f"), [one]);
});

Deno.test("alpaca: questions need no output where none is asked for", () => {
  const text = JSON.stringify([{ instruction: "Why?" }, { instruction: "How?", output: "So." }]);
  assert.throws(() => parseAlpaca(text, "q.json"), /sample 1: output is missing/);
  assert.deepEqual(parseAlpaca(text, "q.json", Infinity, { outputs: false }), [
    { instruction: "Why?", input: "", output: "" },
    { instruction: "How?", input: "", output: "So." },
  ]);
  assert.throws(
    () => parseAlpaca('{"input": "x"}', "q.jsonl", Infinity, { outputs: false }),
    /instruction is missing/,
  );
});

Deno.test("alpaca: input may be missing or null, other keys are ignored", () => {
  const { input: _, ...bare } = one;
  const text = JSON.stringify([bare, { ...one, input: null, id: 7 }]);
  assert.deepEqual(parseAlpaca(text, "f"), [one, one]);
});

Deno.test("alpaca: limit takes the first samples and leaves the others unread", () => {
  assert.deepEqual(parseAlpaca(JSON.stringify([one, 3]), "f", 1), [one]);
  assert.deepEqual(parseAlpaca(`${JSON.stringify(one)}\nbroken`, "f", 1), [one]);
  assert.deepEqual(parseAlpaca(JSON.stringify([one, two]), "f", 5), [one, two]);
});

Deno.test("alpaca: the built-in samples are at least 200", () => {
  const samples = loadAlpaca("builtin");
  assert.ok(samples.length >= 200);
  assert.deepEqual(loadAlpaca("builtin", 3), samples.slice(0, 3));
});

const json = JSON.stringify([one, two], null, 1);
const line = JSON.stringify(one);

/** What is wrong, the text, and what the message says after the file's name. */
const faults: [string, string, RegExp][] = [
  ["empty", " \n", /is empty/],
  ["no samples", "[]", /holds no samples/],
  ["not JSON", "instruction,output\n", /is not JSON .*Unexpected token/],
  ["not JSON further down", json.replace('"Add.",', '"Add."'), /is not JSON at line 9 /],
  ["truncated in a string", json.slice(0, 30), /is truncated: it ends before its JSON array does/],
  ["truncated after a sample", json.slice(0, -2), /is truncated: /],
  ["truncated after a comma", "[1,", /is truncated: /],
  ["truncated line", `${line}\n${line.slice(0, -4)}\n`, /is truncated at line 2: /],
  ["bad line", `${line}\n\n{instruction}\n`, /is not JSON at line 3 /],
  ["a number", "3", /holds a number; expected a JSON array/],
  ["an object", JSON.stringify({ data: [one] }, null, 2), /holds an object; expected a JSON array/],
  [
    "a string for a sample",
    JSON.stringify([one, "x"]),
    /, sample 2 is a string; expected an object/,
  ],
  ["null for a sample", JSON.stringify([null]), /, sample 1 is null/],
  ["an array in JSON Lines", `${line}\n[1]`, /, line 2 is an array/],
  ["no output", JSON.stringify([{ ...one, output: undefined }]), /, sample 1: output is missing/],
  ["null output", JSON.stringify([{ ...one, output: null }]), /, sample 1: output is missing/],
  ["empty output", JSON.stringify([one, { ...one, output: " " }]), /, sample 2: output is empty/],
  ["no output in a line", `${line}\n{"instruction":"a"}`, /, line 2: output is missing/],
  ["no instruction", '[{"output":"a"}]', /, sample 1: instruction is missing/],
  ["a number for output", JSON.stringify([{ ...one, output: 3 }]), /output is a number; expected/],
  ["a list for input", JSON.stringify([{ ...one, input: [] }]), /input is an array; expected/],
];

for (const [name, text, message] of faults) {
  Deno.test(`alpaca: ${name} is refused by name`, () => {
    assert.throws(() => parseAlpaca(text, "some.json"), (error) => {
      assert.ok(error instanceof UserError);
      assert.ok(error.message.startsWith('data file "some.json"'), error.message);
      assert.match(error.message, message);
      assert.ok(!error.message.includes("\n"), error.message);
      return true;
    });
  });
}

Deno.test("alpaca: files that can't be read are refused by name", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const refused = (path: string, message: RegExp) =>
      assert.throws(
        () => loadAlpaca(path),
        (error) =>
          error instanceof UserError && error.message.includes(path) && message.test(error.message),
      );
    refused(`${folder}/missing.json`, /does not exist/);
    refused(folder, /can't be read/);
    Deno.writeFileSync(`${folder}/binary`, Uint8Array.of(0x7b, 0xff, 0xfe));
    refused(`${folder}/binary`, /is not UTF-8 text/);
    Deno.writeTextFileSync(`${folder}/fine.jsonl`, `\ufeff${line}`);
    assert.deepEqual(loadAlpaca(`${folder}/fine.jsonl`), [one]);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test('parseAlpaca: {"text"} is plain text without a prompt', () => {
  const [sample] = parseAlpaca('{"text": "Once upon a time."}\n', "corpus.jsonl");
  assert.deepEqual(sample, { instruction: "", input: "", output: "Once upon a time." });
  assert.throws(() => parseAlpaca('{"text": ""}', "corpus.jsonl"), /text is empty/);
  assert.throws(() => parseAlpaca('{"text": 3}', "corpus.jsonl"), /text is a number/);
});
