/** Streaming of whole characters. */
import assert from "node:assert/strict";
import { gunzipSync } from "node:zlib";
import { TextStream } from "../../../model/engine/text_stream.ts";
import { loadTokenizer } from "../../../model/text/tokenizer/load.ts";
import type { Tokenizer } from "../../../model/text/tokenizer/tokenizer.ts";
import { fixturePath } from "../../fixtures.ts";
import { writeTokenizer } from "../text/tokenizer/tokenizer_files.ts";
import { randomBelow, variedTexts } from "../text/tokenizer/tokenizer_texts.ts";
import { hasShared, sharedPath, sharedReason } from "../../shared.ts";

const tokenizer = await loadTokenizer(fixturePath("tiny_tokenizer.model"));

/** Varied texts, and lists of ids at random, that each tokenizer is tried with. */
const TEXTS = 300, LISTS = 200;

/** The id of the token for a byte that is part of no piece: ids 3 to 258 in Llama's way. */
function byteId({ encode }: Tokenizer, byte: number): number {
  // U+07FF is no piece of the tiny vocabulary: its two bytes are its last two ids.
  const [first] = encode("\u07ff").slice(-2);
  return first - 0xdf + byte;
}

/** The pieces of a stream of ids, the last one from its end. */
function pieces(ids: readonly number[], { decode } = tokenizer): string[] {
  const stream = new TextStream(decode);
  const list = ids.map((id) => stream.push(id));
  return [...list, stream.end()];
}

const bytes = (text: string) =>
  [...new TextEncoder().encode(text)].map((byte) => byteId(tokenizer, byte));

Deno.test("text stream: a character of several byte tokens comes whole", () => {
  assert.deepEqual(pieces(bytes("€")), ["", "", "€", ""]);
  assert.deepEqual(pieces(bytes("😀é")), ["", "", "", "😀", "", "é", ""]);
});

Deno.test("text stream: bytes that are no character come out once that is certain", () => {
  const [lead, second] = bytes("€");
  const a = byteId(tokenizer, 0x41);
  assert.deepEqual(pieces([lead, second]), ["", "", "\ufffd\ufffd"]);
  assert.deepEqual(pieces([lead, a]), ["", "\ufffdA", ""]);
  assert.deepEqual(pieces([a, lead, ...bytes("€")]), ["A", "", "", "", "\ufffd€", ""]);
  // At most three bytes can wait for the rest of a character.
  assert.deepEqual(pieces(Array(5).fill(second)), [
    "",
    "",
    "",
    "\ufffd",
    "\ufffd",
    "\ufffd".repeat(3),
  ]);
});

Deno.test("text stream: the space before a word comes with the word", () => {
  const ids = tokenizer.encode("one two");
  const list = pieces(ids);
  assert.equal(list.join(""), "one two");
  assert.ok(!list[0].startsWith(" "));
});

Deno.test("text stream: the whole text at any time", () => {
  const stream = new TextStream(tokenizer.decode);
  assert.equal(stream.text, "");
  const ids = bytes("a€");
  for (const [i, id] of ids.entries()) {
    stream.push(id);
    assert.equal(stream.text, tokenizer.decode(ids.slice(0, i + 1)));
  }
  stream.end();
  assert.equal(stream.text, "a€");
  assert.equal(stream.end(), "");
});

/**
 * Expects that the pieces add up to what decoding all ids gives, and that no piece breaks a character:
 * each time, what was given is the beginning of the whole text.
 */
function sameAsOneShot(tokenizer: Tokenizer, ids: readonly number[], what: string): void {
  const whole = tokenizer.decode(ids);
  const list = pieces(ids, tokenizer);
  assert.equal(list.join(""), whole, what);
  assert.ok(list.every((piece) => piece.isWellFormed()), what);
  if (!whole.includes("\ufffd")) {
    assert.ok(list.every((piece) => !piece.includes("\ufffd")), what);
  }
}

/** Streams varied texts, and ids at random: bytes in any order, control tokens, U+FFFD itself. */
function streamAll(tokenizer: Tokenizer, texts: readonly string[]): void {
  for (const text of texts) sameAsOneShot(tokenizer, tokenizer.encode(text), JSON.stringify(text));
  sameAsOneShot(tokenizer, tokenizer.encode(texts.join("")), "all texts");
  const below = randomBelow(11);
  const pick = (ids: readonly number[]) => ids[below(ids.length)];
  // Parts of characters: tokens of characters rare enough to be written in bytes.
  const parts = tokenizer.encode("\u{10ffff}\u07ff\u{e0041}𐀀\ufffd \u0378");
  const { eos_id, vocab_size } = tokenizer, bos_id = tokenizer.bos_id!;
  const odd = [bos_id, eos_id, vocab_size, ...tokenizer.encode("\ufffd"), ...tokenizer.encode(" ")];
  for (let i = 0; i < LISTS; i++) {
    const length = below(i % 10 === 0 ? 300 : 12);
    const kind = below(4);
    const ids = Array.from({ length }, () => {
      if (kind === 0) return below(vocab_size);
      return pick(below(4) < kind ? parts : odd);
    });
    sameAsOneShot(tokenizer, ids, `${ids}`);
  }
  for (const id of odd) {
    const many: number[] = Array(200).fill(id);
    sameAsOneShot(tokenizer, [...many, ...tokenizer.encode("a b")], `200 times ${id}`);
    sameAsOneShot(
      tokenizer,
      [...tokenizer.encode("a"), parts[1], ...many, parts[2]],
      `${id} within`,
    );
  }
}

Deno.test("text stream: equals decoding at once, tiny SentencePiece model", () => {
  streamAll(tokenizer, variedTexts(TEXTS));
});

Deno.test({
  name: `text stream: equals decoding at once, Llama 2${sharedReason}`,
  ignore: !hasShared,
  async fn() {
    streamAll(await loadTokenizer(sharedPath("llama2")), variedTexts(TEXTS));
  },
});

/** The files of a tokenizer in tokenizers/kinds.json.gz. */
function kindFiles(wanted: string): Record<string, unknown> {
  const bytes = gunzipSync(Deno.readFileSync(fixturePath("tokenizers/kinds.json.gz")));
  const { kinds }: { kinds: { name: string; files: Record<string, unknown> }[] } = JSON.parse(
    new TextDecoder().decode(bytes),
  );
  const kind = kinds.find(({ name }) => name === wanted);
  assert.ok(kind, wanted);
  return kind.files;
}

Deno.test("text stream: equals decoding at once, Llama 3's bytes", async () => {
  const folder = await Deno.makeTempDir();
  try {
    // Of the same kind as Llama 3's, with fewer pieces: more characters are written in several tokens.
    const { "tokenizer.json": json, ...files } = kindFiles("tokenizer.json as Llama 3's");
    writeTokenizer(folder, json, files);
    streamAll(await loadTokenizer(folder), variedTexts(TEXTS));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("text stream: decodes a bounded number of tokens, however long the text", () => {
  const ids = tokenizer.encode("word and 😀 more \n".repeat(50));
  for (const list of [ids, ids.map(() => bytes("€")[1]), ids.map((_, i) => bytes("日本")[i % 6])]) {
    let most = 0;
    const stream = new TextStream((ids) => {
      most = Math.max(most, ids.length);
      return tokenizer.decode(ids);
    });
    let text = "";
    for (const id of list) text += stream.push(id);
    text += stream.end();
    assert.equal(text, tokenizer.decode(list));
    assert.equal(stream.text, text);
    assert.ok(most <= 64, `${most} tokens at once`);
  }
});
