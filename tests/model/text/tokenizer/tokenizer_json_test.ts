/** tokenizer.json against SentencePiece, llama3-tokenizer-js, and ids worked out by hand. */
import assert from "node:assert/strict";
import { join } from "node:path";
import llama3 from "llama3-tokenizer-js";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import type { Tokenizer } from "../../../../model/text/tokenizer/tokenizer.ts";
import {
  fromLlama3,
  fromSentencePiece,
  special,
  type TokenizerJson,
  writeTokenizer,
} from "./tokenizer_files.ts";
import { randomBelow, variedTexts } from "./tokenizer_texts.ts";
import { root, SETTINGS, tiny, write } from "./tokenizer_folders.ts";

function sameIds(actual: Tokenizer, expected: Tokenizer, texts: readonly string[]): void {
  for (const text of texts) {
    const ids = expected.encode(text);
    assert.equal(actual.encode(text).join(" "), ids.join(" "), JSON.stringify(text));
    assert.equal(actual.decode(ids), expected.decode(ids), JSON.stringify(text));
  }
}

Deno.test("tokenizer.json: a converted SentencePiece model gives the same ids and texts", async () => {
  const expected = await loadTokenizer(tiny);
  const actual = await loadTokenizer(write(fromSentencePiece(tiny), SETTINGS));
  const { vocab_size, bos_id, eos_id } = expected;
  assert.deepEqual([actual.vocab_size, actual.bos_id, actual.eos_id], [vocab_size, bos_id, eos_id]);
  const long = "word and more \n😀".repeat(5000);
  sameIds(actual, expected, [...variedTexts(1000), long, "a\ud800b\udc00"]);
  const below = randomBelow(5);
  for (let i = 0; i < 1000; i++) {
    // Half of the ids are bytes. <unk>, id 0, is a special token in tokenizer.json.
    const ids = Array.from({ length: below(12) }, () => 1 + below(below(2) ? 258 : vocab_size - 1));
    // A space that is a byte (id 35) and begins the text is one that SentencePiece leaves.
    if (ids[0] !== 35) assert.equal(actual.decode(ids), expected.decode(ids), `${ids}`);
  }
});

Deno.test("tokenizer.json: control tokens in plain text and in a template", async () => {
  const model = await loadTokenizer(tiny);
  const json = fromSentencePiece(tiny);
  // Merges that spell a control token out, as a hostile file may have them.
  json.model.merges.push("< s", "<s >");
  Object.assign(json.model.vocab, { "<s": 360, "<": 361, ">": 362 });
  const tokenizer = await loadTokenizer(write(json, SETTINGS));
  const ids = tokenizer.encode("<s>Name a bird</s>");
  assert.ok(!ids.includes(tokenizer.bos_id!) && !ids.includes(tokenizer.eos_id));
  assert.equal(tokenizer.decode(ids), "<s>Name a bird</s>");
  const template = "<s>Name a</s></s> bird\n";
  assert.deepEqual(tokenizer.encodeSpecial(template), model.encodeSpecial(template));
  assert.deepEqual(tokenizer.encodeParts([1, "a <s", ">", 2]), [
    1,
    ...tokenizer.encode("a <s>"),
    2,
  ]);
  assert.equal(tokenizer.decode([1, ...model.encode("a b"), 2, 999, -1]), "a b");
  assert.equal(tokenizer.decode([1, 2]), "");
  assert.equal(tokenizer.decode([]), "");
  // U+10000 and U+1F400 have the surrogates that the mark of control tokens is made of.
  const animals = "\u{10000}\u{10000}🐀\u{1f400}";
  assert.deepEqual(tokenizer.encodeSpecial(`<s>${animals}</s>`), [1, ...model.encode(animals), 2]);
});

Deno.test("tokenizer.json: Metaspace puts a space where prepend_scheme says", async () => {
  const model = await loadTokenizer(tiny);
  const with_ = async (pre_tokenizer: unknown) =>
    await loadTokenizer(
      write({ ...fromSentencePiece(tiny), normalizer: null, pre_tokenizer }, SETTINGS),
    );
  const space = model.encode("\n")[0];
  const bare = (text: string) => model.encode(`\n${text}`).slice(2);
  const metaspace = { type: "Metaspace", replacement: "▁" };
  const first = await with_({ ...metaspace, prepend_scheme: "first", split: false });
  assert.deepEqual(first.encode("bird"), model.encode("bird"));
  assert.deepEqual(first.encode(" bird"), model.encode("bird"));
  assert.deepEqual(first.encodeSpecial("bird</s>bird"), [
    ...model.encode("bird"),
    2,
    ...bare("bird"),
  ]);
  assert.deepEqual(first.encodeSpecial("<s>bird"), [1, ...bare("bird")]);
  const never = await with_({ ...metaspace, prepend_scheme: "never", split: false });
  assert.deepEqual(never.encode("bird"), bare("bird"));
  const always = await with_({ ...metaspace, prepend_scheme: "always", split: false });
  assert.deepEqual(always.encodeSpecial("<s>bird"), [1, ...model.encode("bird")]);
  // With split, no token reaches over the space before a word.
  const cut = await with_({ ...metaspace, add_prefix_space: true });
  assert.ok(model.encode("a    b").length < 6);
  assert.deepEqual(cut.encode("a    b"), [
    ...model.encode("a"),
    space,
    space,
    space,
    ...model.encode("b"),
  ]);
});

/** A byte-level tokenizer of single bytes and the given merges. */
function byteLevel(merges: string[], pre_tokenizer: unknown): TokenizerJson {
  const bytes = llama3.vocabById.slice(0, 256).map((token, id) => [token, id] as const);
  const made = merges.map((merge, i) => [merge.replace(" ", ""), 256 + i]);
  return {
    added_tokens: [special("<|endoftext|>", 256 + merges.length)],
    normalizer: null,
    pre_tokenizer,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", vocab: Object.fromEntries([...bytes, ...made]), merges },
  };
}

const END = {
  "special_tokens_map.json": { bos_token: "<|endoftext|>", eos_token: "<|endoftext|>" },
};

Deno.test("tokenizer.json: byte-level, as SmolLM's, by hand", async () => {
  // Llama 3 numbers bytes as GPT-2 does: "!" is 0, "0" 15, "a" 64, and U+0120, a space, is 220.
  const a = 64, b = 65, space = 220, one = 16, two = 17;
  const pre_tokenizer = {
    type: "Sequence",
    pretokenizers: [
      { type: "Digits", individual_digits: true },
      { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    ],
  };
  const merges = ["a b", "Ġ ab", "1 2", "Ġ Ġ", "ab ab", "Ù £"];
  const [ab, _ab, _twelve, spaces, abab, three] = merges.map((_, i) => 256 + i);
  const tokenizer = await loadTokenizer(write(byteLevel(merges, pre_tokenizer), END));
  assert.deepEqual([tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id], [263, 262, 262]);
  assert.deepEqual([tokenizer.prefix_ids, tokenizer.suffix_ids], [[], []]);
  const cases: [string, number[]][] = [
    ["ab", [ab]],
    [" ab", [_ab]],
    ["abab", [abab]],
    [" abab", [_ab, ab]],
    ["   ab", [spaces, _ab]],
    ["12", [one, two]],
    ["a12b", [a, one, two, b]],
    [" 1", [space, one]],
    // An Arabic digit is one, so no merge reaches over two of them: U+0663 is D9 A3.
    ["٣٣", [three, three]],
    ["", []],
  ];
  for (const [text, ids] of cases) {
    assert.deepEqual(tokenizer.encode(text), ids, text);
    assert.equal(tokenizer.decode(ids), text);
  }
  assert.deepEqual(tokenizer.encodeSpecial("ab<|endoftext|> ab"), [ab, 262, _ab]);
  assert.ok(!tokenizer.encode("<|endoftext|>").includes(262));
  // Bytes that are no character, U+FFFD once for each start of one, as UTF-8 decoders do.
  const [e2, x82, xac] = tokenizer.encode("€");
  assert.equal(tokenizer.decode([e2, x82, a, xac]), "\ufffda\ufffd");
});

Deno.test("tokenizer.json: spaces of byte-level patterns are Unicode's, not JavaScript's", async () => {
  const pre_tokenizer = { type: "ByteLevel", add_prefix_space: false };
  const tokenizer = await loadTokenizer(write(byteLevel(["Ġ Â", "Ġ ï"], pre_tokenizer), END));
  const [space, c2, x85, bb, bf, a] = [220, 126, 227, 119, 123, 64];
  // U+0085 (bytes C2 85) is a space: it stands alone before the word, so no merge reaches into it.
  assert.deepEqual(tokenizer.encode(" \u0085a"), [space, c2, x85, a]);
  // U+FEFF (EF BB BF) is none: with the space before it, it is one word.
  assert.deepEqual(tokenizer.encode(" \ufeffa"), [257, bb, bf, a]);
});

Deno.test("tokenizer.json: add_prefix_space puts a space before the first word", async () => {
  const pre_tokenizer = { type: "ByteLevel", add_prefix_space: true };
  const tokenizer = await loadTokenizer(write(byteLevel(["Ġ a"], pre_tokenizer), END));
  assert.deepEqual(tokenizer.encode("a b"), [256, 220, 65]);
  assert.deepEqual(tokenizer.encode(" a"), [256]);
});

let llama3Tokenizer: Promise<Tokenizer> | undefined;

/** Llama 3's tokenizer from a tokenizer.json; read once. */
function loadLlama3(): Promise<Tokenizer> {
  return llama3Tokenizer ??= loadTokenizer(write(fromLlama3(llama3), {
    "tokenizer_config.json": { bos_token: "<|begin_of_text|>", eos_token: "<|eot_id|>" },
  }));
}

Deno.test("tokenizer.json: Llama 3's ids are those of llama3-tokenizer-js", async () => {
  const tokenizer = await loadLlama3();
  assert.deepEqual(
    [tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id],
    [128256, 128000, 128009],
  );
  const plain = { bos: false, eos: false };
  // Left out: U+0085 and U+FEFF. llama3-tokenizer-js takes JavaScript's \s for a space, which has the
  // second and not the first; in Meta's own (Rust) pattern it is the other way round.
  const texts = variedTexts(1000).filter((text) => !/[\u0085\ufeff]/.test(text));
  assert.ok(texts.length > 750);
  for (const text of texts) {
    const ids = tokenizer.encodeSpecial(text);
    assert.equal(ids.join(" "), llama3.encode(text, plain).join(" "), JSON.stringify(text));
    const control = text.includes("<|");
    if (!control) assert.equal(tokenizer.encode(text).join(" "), ids.join(" "));
    if (!control) assert.equal(llama3.decode(ids), text.replace(/^\ufeff/, ""));
  }
  for (const text of variedTexts(1000)) {
    const ids = tokenizer.encode(text);
    assert.ok(ids.every((id) => id < 128000));
    assert.equal(tokenizer.decode(ids), text);
  }
});

Deno.test("tokenizer.json: no clean-up takes spaces out of a text", async () => {
  const tokens = { bos_token: "<|endoftext|>", eos_token: "<|endoftext|>" };
  const settings = { ...tokens, clean_up_tokenization_spaces: true };
  const folder = write(byteLevel([], { type: "ByteLevel", add_prefix_space: false }), {
    "tokenizer_config.json": settings,
  });
  const tokenizer = await loadTokenizer(folder);
  const text = "ls . ; do n't ! , 's";
  assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
});

Deno.test("tokenizer.json: long texts don't take long", async () => {
  const tokenizer = await loadLlama3();
  const text = " ".repeat(50_000) + "a".repeat(50_000) + "ab1, ".repeat(10_000);
  const began = performance.now();
  const ids = tokenizer.encode(text);
  assert.equal(tokenizer.decode(ids), text);
  // Some 0.3 s; 50,000 squared would take minutes.
  assert.ok(performance.now() - began < 20_000);
});

Deno.test("tokenizer.json: a folder is one whatever its name ends in, and so is a file", async () => {
  const folder = writeTokenizer(join(root, "model.json"), fromSentencePiece(tiny), SETTINGS);
  const file = join(folder, "tokenizer.json"), ids = (await loadTokenizer(folder)).encode("a bird");
  assert.deepEqual((await loadTokenizer(file)).encode("a bird"), ids);
  assert.ok(ids.length > 0);
});

Deno.test("tokenizer.json: where BOS and EOS are from", async () => {
  const json = fromSentencePiece(tiny);
  const ids = async (files: Record<string, unknown>) => {
    const { bos_id, eos_id } = await loadTokenizer(write(json, files));
    return [bos_id, eos_id];
  };
  const map = { bos_token: { content: "<s>" }, eos_token: "a" };
  const a = json.model.vocab.a;
  assert.deepEqual(await ids({ "special_tokens_map.json": map }), [1, a]);
  // The older file counts, unless the newer one lists the added tokens.
  assert.deepEqual(await ids({ ...SETTINGS, "special_tokens_map.json": map }), [1, a]);
  const listed = { ...SETTINGS["tokenizer_config.json"], added_tokens_decoder: {} };
  assert.deepEqual(
    await ids({ "tokenizer_config.json": listed, "special_tokens_map.json": map }),
    [1, 2],
  );
  // A model's config.json says which token ends a text, and nothing of what is put before it.
  const config = { "config.json": { bos_token_id: 2, eos_token_id: [1, 2] } };
  assert.deepEqual(await ids(config), [undefined, 1]);
  const half = { "tokenizer_config.json": { bos_token: null, eos_token: "a" } };
  assert.deepEqual(await ids({ ...config, ...half }), [undefined, a]);
  // Whatever is EOS is a control token: it is not decoded, and not made from text.
  const tokenizer = await loadTokenizer(write(json, { ...config, ...half }));
  assert.equal(tokenizer.decode([a]), "");
  assert.ok(!tokenizer.encode("a b a").includes(a));
});
