import assert from "node:assert/strict";
import { crc32 } from "node:zlib";
import { loadSamples } from "../../../model/text/data/load.ts";
import {
  type AlpacaSample,
  describeSample,
  encodePrompt,
  encodeRaw,
  encodeSample,
  renderPrompt,
  supervisedTokens,
  type TextSample,
} from "../../../model/text/prompt.ts";
import { splitSpecial } from "../../../model/text/tokenizer/special_tokens.ts";
import { loadTokenizer } from "../../../model/text/tokenizer/load.ts";
import type { Tokenizer } from "../../../model/text/tokenizer/tokenizer.ts";
import { fixturePath } from "../../fixtures.ts";
import { hasShared, sharedPath, sharedReason } from "../../shared.ts";
import type { Sample } from "../../../model/text/sample.ts";
import { SampleEncoder } from "../../../model/text/sample_encoder.ts";
import { promptLengthOf } from "../../../model/text/targets.ts";

const tiny = fixturePath("tiny_tokenizer.model");

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
    (text.match(/:y|[^]/g) ?? []).map((piece) => piece === ":y" ? 999 : piece.charCodeAt(0)),
  encodeSpecial: (text) => letters.encodeParts(splitSpecial(text, letters.special_tokens)),
  encodeSections: (text) => [{
    start: 0,
    end: text.length,
    ids: letters.encodeSpecial(text),
    split: (at) => [at, at],
  }],
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
  const encoded = encodeSample(tokenizer, sample, 4096), promptLength = promptLengthOf(encoded);
  const { ids, truncated } = encoded;
  const prompt = encodePrompt(tokenizer, renderPrompt(sample, "alpaca"));
  assert.deepEqual(ids.slice(0, promptLength), prompt);
  assert.equal(ids.indexOf(1), 0);
  assert.equal(ids.lastIndexOf(1), 0);
  assert.equal(ids.indexOf(2), ids.length - 1);
  assert.equal(truncated, false);
  assert.equal(tokenizer.decode([...ids]), renderPrompt(sample, "alpaca") + "Lorikeet");
});

Deno.test("prompt: as many tokens as the prompt alone has are masked, also one that spans both", () => {
  const plain = encodeSample(letters, { instruction: "x", input: "", output: "no" }, 4096);
  assert.equal(supervisedTokens(plain), 3);
  const spanning = encodeSample(letters, { instruction: "x", input: "", output: "yes" }, 4096);
  assert.deepEqual(promptLengthOf(spanning), promptLengthOf(plain));
  assert.deepEqual([...spanning.ids.slice(promptLengthOf(spanning) - 1)], [999, 101, 115, 2]);
});

Deno.test("prompt: the mask ends where the sample does", () => {
  /** A tokenizer that knows two texts alone: a prompt "a", and that with the completion "c". */
  const of = (prompt: number[], whole: number[]): Tokenizer => ({
    ...letters,
    encodeSpecial: (text) => text === "a" ? prompt : whole,
  });
  const sample = { prompt: "a", completion: "c" };
  const one = encodeSample(of([3, 4, 5], [6, 7, 8]), sample, 4096);
  assert.deepEqual([[...one.ids], supervisedTokens(one)], [[1, 6, 7, 8, 2], 1]);
  const none = encodeSample(of([3, 4, 5], [6]), sample, 4096);
  assert.deepEqual([[...none.ids], supervisedTokens(none)], [[1, 6, 2], 0]);
});

Deno.test("prompt: the first token is no target where no BOS precedes it", () => {
  const bare: Tokenizer = { ...letters, bos_id: undefined, prefix_ids: [] };
  const sample = encodeSample(bare, { prompt: "", completion: "ab" }, 4096);
  assert.deepEqual([[...sample.ids], sample.targets], [[97, 98, 2], [[1, 3]]]);
});

Deno.test("prompt: a system text and a history, of which only the last answer is learnt", () => {
  const sample = {
    instruction: "And now?",
    input: "here",
    output: "Three.",
    system: "You count.",
    history: [["One?", "One."], ["Two?", "Two."]] as const,
  };
  const expected = "You count.\n\n### Instruction:\nOne?\n\n### Response:One.\n\n" +
    "### Instruction:\nTwo?\n\n### Response:Two.\n\n" +
    "### Instruction:\nAnd now?\n\n### Input:\nhere\n\n### Response:";
  assert.equal(renderPrompt({ ...sample, history: [...sample.history] }, "alpaca"), expected);
  const encoded = encodeSample(letters, { ...sample, history: [...sample.history] }, 4096);
  const { ids } = encoded, promptLength = promptLengthOf(encoded);
  assert.equal(letters.decode([...ids.slice(0, promptLength)]), expected);
  assert.equal(letters.decode([...ids.slice(promptLength)]), "Three.");
  assert.equal(
    renderPrompt({ ...sample, history: [...sample.history] }, "none"),
    "You count.\nOne?\nOne.\nTwo?\nTwo.\nAnd now?\nhere",
  );
});

Deno.test("prompt: control tokens count in raw text and are letters in Alpaca's fields", () => {
  const ids = (sample: TextSample) => [...encodeSample(letters, sample, 4096).ids];
  const text = (completion: string) => ids({ prompt: "", completion });
  assert.deepEqual(text("a"), [1, 97, 2]);
  assert.deepEqual(text("<s>a</s>"), [1, 97, 2]);
  assert.deepEqual(text("<s>a</s><s>b"), [1, 97, 2, 1, 98, 2]);
  // As in TRL, an end that blanks follow is not the text's end.
  assert.deepEqual(text("a</s> "), [1, 97, 2, 32, 2]);
  assert.deepEqual(ids({ prompt: "<s>a</s>", completion: "b</s>" }), [1, 97, 2, 98, 2]);
  const inside = encodeSample(letters, { instruction: "<s>", input: "", output: "</s>" }, 4096);
  assert.deepEqual([inside.ids.lastIndexOf(1), inside.ids.indexOf(2)], [0, inside.ids.length - 1]);
  assert.equal(supervisedTokens(inside), "</s>".length + 1);
});

Deno.test("prompt: encodeRaw adds BOS where the text does not begin with it", () => {
  assert.deepEqual([...encodeRaw(letters, "a<s>")], [1, 97, 1]);
  assert.deepEqual([...encodeRaw(letters, "<s>a")], [1, 97]);
  const bare: Tokenizer = { ...letters, prefix_ids: [] };
  assert.deepEqual([...encodeRaw(bare, "a")], [97]);
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
  assert.equal(promptLengthOf(cut), promptLengthOf(whole));
  assert.equal(supervisedTokens(cut), supervisedTokens(whole) - 2);
  const gone = encodeSample(letters, sample, 10);
  assert.deepEqual([gone.ids.length, gone.targets, supervisedTokens(gone)], [10, [], 0]);
});

Deno.test("prompt: describeSample marks the masked part and the control tokens", () => {
  const sample = encodeSample(letters, { instruction: "x", input: "", output: "no" }, 4096);
  const prompt = renderPrompt({ instruction: "x" }, "alpaca");
  assert.equal(describeSample(letters, sample).codes, `[⟨<s>⟩${prompt}]no⟨</s>⟩`);
  assert.equal(
    describeSample(letters, sample, true).codes,
    `\x1b[2m\x1b[7m<s>\x1b[27m${prompt}\x1b[22mno\x1b[7m</s>\x1b[27m`,
  );
  const cut = encodeSample(letters, { instruction: "x", input: "", output: "no" }, 10);
  assert.equal(describeSample(letters, cut).codes, "[⟨<s>⟩Below is ]");
});

Deno.test("prompt: describeSample tells control tokens from letters, with any tokenizer's texts", () => {
  const text = encodeSample(letters, { prompt: "", completion: "<s>a</s>b" }, 4096);
  assert.equal(describeSample(letters, text).codes, "[⟨<s>⟩]a⟨</s>⟩b⟨</s>⟩");
  const words = encodeSample(letters, { instruction: "<s>", input: "", output: "</s>" }, 4096);
  assert.match(describeSample(letters, words).codes, /:\n<s>\n[^]*:\]<\/s>⟨<\/s>⟩$/);
  // Brackets that the text has itself would be no sign.
  const bracketed = encodeSample(letters, { prompt: "", completion: "⟨<s>⟩a" }, 4096);
  assert.equal(describeSample(letters, bracketed).codes, "[⟪<s>⟫]⟨⟪<s>⟫⟩a⟪</s>⟫");
  const other: Tokenizer = {
    ...letters,
    special_tokens: new Map([["<|begin|>", 1], ["<|end|>", 2], ["<|pad|>", 0]]),
  };
  const ids = Uint32Array.of(1, 97, 0, 98, 2);
  assert.equal(
    describeSample(other, { ids, targets: [[2, 5]], truncated: false }).codes,
    "[⟨<|begin|>⟩a]⟨<|pad|>⟩b⟨<|end|>⟩",
  );
  assert.equal(
    describeSample(other, { ids, targets: [[1, 2], [3, 4]], truncated: false }).codes,
    "[⟨<|begin|>⟩]a[⟨<|pad|>⟩]b[⟨<|end|>⟩]",
  );
  assert.equal(
    describeSample(other, { ids, targets: [], truncated: false }).codes,
    "[⟨<|begin|>⟩a⟨<|pad|>⟩b⟨<|end|>⟩]",
  );
  // What a terminal would obey is not passed on.
  const escape = encodeSample(letters, { prompt: "", completion: "\x1b[7ma\tb\n" }, 4096);
  assert.equal(describeSample(letters, escape, false).codes, "[⟨<s>⟩]\\x1b[7ma\tb\n⟨</s>⟩");
});

Deno.test("prompt: describeSample keeps the spaces around control tokens and before the first target", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const sample = encodeSample(
    tokenizer,
    { instruction: "Name a bird.", input: "", output: " Hello world" },
    4096,
  );
  assert.ok(describeSample(tokenizer, sample).codes.endsWith("### Response:] Hello world⟨</s>⟩"));
  const text = encodeSample(tokenizer, { prompt: "", completion: "Hello world </s>" }, 4096);
  assert.equal(describeSample(tokenizer, text).codes, "[⟨<s>⟩]Hello world ⟨</s>⟩");
});

/** labels.json: what Stanford Alpaca's code learns of samples; see make_labels.py. */
interface Labels {
  /** Tokens, how many of them are no targets, and the ids' CRC-32, of each sample. */
  alpaca: Record<"transformers" | "sentencepiece", [number, number, number][]>;
  tiny: { sample: AlpacaSample; ids: number[]; first_target: number }[];
}
const labels: Labels = JSON.parse(Deno.readTextFileSync(fixturePath("labels.json")));

Deno.test("prompt: ids and first targets are those of Alpaca's training code", async () => {
  const tokenizer = await loadTokenizer(tiny);
  assert.ok(labels.tiny.length >= 10);
  for (const { sample, ids, first_target } of labels.tiny) {
    const encoded = encodeSample(tokenizer, sample, 4096);
    assert.deepEqual(
      [[...encoded.ids], encoded.targets],
      [ids, [[first_target, ids.length]]],
      sample.output,
    );
  }
});

/** Samples with LLaMA-2's tokenizer. */
async function encodedSamples(samples: readonly Sample[], maxLength: number) {
  const tokenizerPath = sharedPath("llama2/tokenizer.model");
  const encoder = new SampleEncoder(await loadTokenizer(tokenizerPath), { tokenizerPath });
  return samples.map((sample) => encoder.encode(sample, maxLength));
}

Deno.test({
  name:
    `prompt: targets of the 200 Alpaca samples are those of Alpaca's code, all of them${sharedReason}`,
  ignore: !hasShared,
  async fn() {
    const { samples, notes } = await loadSamples(sharedPath("alpaca_data_200.json"));
    const encoded = await encodedSamples(samples, 4096);
    assert.deepEqual([samples.length, notes], [200, []]);
    for (const [i, sample] of encoded.entries()) {
      const { ids } = sample, promptLength = promptLengthOf(sample);
      const crc = crc32(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
      assert.deepEqual([ids.length, promptLength, crc], labels.alpaca.sentencepiece[i], `${i}`);
      assert.equal(promptLength, labels.alpaca.transformers[i][1], `${i}`);
    }
    const first = encoded.slice(0, 50).reduce((sum, sample) => sum + supervisedTokens(sample), 0);
    assert.equal(first, 4470);
  },
});

Deno.test({
  name: `prompt: the 200 Alpaca samples are 24,200 tokens${sharedReason}`,
  ignore: !hasShared,
  async fn() {
    const loaded = await loadSamples(sharedPath("alpaca_data_200.json"));
    const samples = await encodedSamples(loaded.samples, 405);
    assert.equal(samples.length, 200);
    assert.equal(samples.reduce((sum, { ids }) => sum + ids.length, 0), 24200);
    assert.ok(samples.every(({ truncated }) => !truncated));
    assert.ok(samples.every(({ ids }) => ids[0] === 1 && ids.lastIndexOf(1) === 0));
    assert.ok(samples.every(({ ids }) => ids.indexOf(2) === ids.length - 1));
    assert.ok(samples.some(({ ids }) => ids.length === 405));
  },
});
