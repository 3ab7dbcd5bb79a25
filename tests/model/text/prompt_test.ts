import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { loadAlpaca } from "../../../model/text/alpaca.ts";
import {
  describeSample,
  encodePrompt,
  encodeSample,
  renderPrompt,
  supervisedTokens,
} from "../../../model/text/prompt.ts";
import { splitSpecial } from "../../../model/text/special_tokens.ts";
import { loadTokenizer, type Tokenizer } from "../../../model/text/tokenizer.ts";
import { hasShared, sharedPath, sharedReason } from "../../shared.ts";

const tiny = fileURLToPath(new URL("../../fixtures/tiny_tokenizer.model", import.meta.url));

/** One id a character, except that ":y" is one id: a token that can span prompt and output. */
const letters: Tokenizer = {
  vocab_size: 1000,
  base_vocab_size: 1000,
  add_bos: "auto",
  token: (id) => String.fromCharCode(id),
  encodeText: (text) => [1, ...letters.encodeSpecial(text)],
  bos_id: 1,
  prefix_ids: [1],
  suffix_ids: [],
  named_tokens: new Map([["bos_token", "<s>"], ["eos_token", "</s>"]]),
  eos_id: 2,
  special_tokens: new Map([["<s>", 1], ["</s>", 2]]),
  encode: (text) =>
    text.match(/:y|[^]/g)!.map((piece) => piece === ":y" ? 999 : piece.charCodeAt(0)),
  encodeSpecial: (text) => letters.encodeParts(splitSpecial(text, letters.special_tokens)),
  encodeParts: (parts) =>
    parts.flatMap((part) => typeof part === "number" ? part : letters.encode(part)),
  decode: (ids) =>
    ids.filter((id) => id > 2).map((id) => id === 999 ? ":y" : String.fromCharCode(id)).join(""),
};

Deno.test("prompt: Alpaca's template with an input", () => {
  assert.equal(
    renderPrompt({ instruction: "Add.", input: "1 2" }, "alpaca"),
    "Below is an instruction that describes a task, paired with an input that provides further " +
      "context. Write a response that appropriately completes the request.\n\n" +
      "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:",
  );
});

Deno.test("prompt: Alpaca's template without an input", () => {
  const expected = "Below is an instruction that describes a task. Write a response that " +
    "appropriately completes the request.\n\n### Instruction:\nName a bird.\n\n### Response:";
  assert.equal(renderPrompt({ instruction: "Name a bird.", input: "" }, "alpaca"), expected);
  assert.equal(renderPrompt({ instruction: "Name a bird." }, "alpaca"), expected);
});

Deno.test("prompt: template none is the text itself", () => {
  assert.equal(renderPrompt({ instruction: " as it is\n" }, "none"), " as it is\n");
  assert.equal(renderPrompt({ instruction: "a", input: "b" }, "none"), "a\nb");
});

Deno.test("prompt: encodePrompt puts BOS first, once", () => {
  assert.deepEqual([...encodePrompt(letters, "ab")], [1, 97, 98]);
});

Deno.test("prompt: a sample is BOS, prompt, output, EOS, masked up to the output", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const sample = { instruction: "Name a bird.", input: "", output: "Lorikeet" };
  const { ids, promptLength, truncated } = encodeSample(tokenizer, sample, 4096);
  const prompt = encodePrompt(tokenizer, renderPrompt(sample, "alpaca"));
  assert.deepEqual(ids.slice(0, promptLength), prompt);
  assert.equal(ids.indexOf(1), 0);
  assert.equal(ids.lastIndexOf(1), 0);
  assert.equal(ids.indexOf(2), ids.length - 1);
  assert.equal(truncated, false);
  assert.equal(tokenizer.decode([...ids]), renderPrompt(sample, "alpaca") + "Lorikeet");
});

Deno.test("prompt: a token that spans prompt and output is a target", () => {
  const plain = encodeSample(letters, { instruction: "x", input: "", output: "no" }, 4096);
  assert.equal(supervisedTokens(plain), 3);
  const spanning = encodeSample(letters, { instruction: "x", input: "", output: "yes" }, 4096);
  assert.equal(spanning.promptLength, plain.promptLength - 1);
  assert.deepEqual([...spanning.ids.slice(spanning.promptLength)], [999, 101, 115, 2]);
});

Deno.test("prompt: the mask is a position, whatever the ids in the prompt", () => {
  const eosInside: Tokenizer = { ...letters, eos_id: "#".charCodeAt(0) };
  const sample = encodeSample(eosInside, { instruction: "#", input: "", output: "no" }, 4096);
  assert.equal(supervisedTokens(sample), 3);
});

Deno.test("prompt: cutting keeps the first ids and says so", () => {
  const sample = { instruction: "x", input: "", output: "nope" };
  const whole = encodeSample(letters, sample, 4096);
  const length = whole.ids.length;
  assert.deepEqual(encodeSample(letters, sample, length), whole);
  const cut = encodeSample(letters, sample, length - 2);
  assert.deepEqual(cut.ids, whole.ids.slice(0, -2));
  assert.equal(cut.truncated, true);
  assert.equal(cut.promptLength, whole.promptLength);
  assert.equal(supervisedTokens(cut), supervisedTokens(whole) - 2);
  const gone = encodeSample(letters, sample, 10);
  assert.deepEqual([gone.ids.length, gone.promptLength, supervisedTokens(gone)], [10, 10, 0]);
});

Deno.test("prompt: describeSample marks the masked part and the control tokens", () => {
  const sample = encodeSample(letters, { instruction: "x", input: "", output: "no" }, 4096);
  const prompt = renderPrompt({ instruction: "x" }, "alpaca");
  assert.equal(describeSample(letters, sample), `[<s>${prompt}]no</s>`);
  assert.equal(describeSample(letters, sample, true), `\x1b[2m<s>${prompt}\x1b[22mno</s>`);
  const cut = encodeSample(letters, { instruction: "x", input: "", output: "no" }, 10);
  assert.equal(describeSample(letters, cut), "[<s>Below is ]");
});

Deno.test("prompt: describeSample keeps the space before the first target", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const sample = encodeSample(
    tokenizer,
    { instruction: "Name a bird.", input: "", output: " Hello world" },
    4096,
  );
  assert.ok(describeSample(tokenizer, sample).endsWith("### Response:] Hello world</s>"));
});

Deno.test({
  name: `prompt: the 200 Alpaca samples are 24,200 tokens${sharedReason}`,
  ignore: !hasShared,
  async fn() {
    const tokenizer = await loadTokenizer(sharedPath("llama2"));
    const samples = loadAlpaca(sharedPath("alpaca_data_200.json"))
      .map((sample) => encodeSample(tokenizer, sample, 405));
    assert.equal(samples.length, 200);
    assert.equal(samples.reduce((sum, { ids }) => sum + ids.length, 0), 24200);
    assert.ok(samples.every(({ truncated }) => !truncated));
    assert.ok(samples.every(({ ids }) => ids[0] === 1 && ids.lastIndexOf(1) === 0));
    assert.ok(samples.every(({ ids }) => ids.indexOf(2) === ids.length - 1));
    assert.ok(samples.some(({ ids }) => ids.length === 405));
  },
});
