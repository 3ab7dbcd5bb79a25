/** Streaming of whole characters. */
import assert from "node:assert/strict";
import { TextStream } from "../../infer/text_stream.ts";
import { loadTokenizer, type Tokenizer } from "../../model/tokenizer.ts";
import { fixturePath } from "../fixtures.ts";

const tokenizer = await loadTokenizer(fixturePath("tiny_tokenizer.model"));

/** The id of the token for a byte that is part of no piece: ids 3 to 258 in Llama's way. */
function byteId({ encode }: Tokenizer, byte: number): number {
  // U+07FF is no piece of the tiny vocabulary: its two bytes are its last two ids.
  const [first] = encode("\u07ff").slice(-2);
  return first - 0xdf + byte;
}

/** The pieces of a stream of ids, the last one from its end. */
function pieces(ids: readonly number[]): string[] {
  const stream = new TextStream((ids) => tokenizer.decode(ids));
  const list = ids.map((id) => stream.push(id));
  return [...list, stream.end()];
}

const bytes = (text: string) =>
  [...new TextEncoder().encode(text)].map((byte) => byteId(tokenizer, byte));

Deno.test("text stream: a character of several byte tokens comes whole", () => {
  assert.deepEqual(pieces(bytes("€")), ["", "", "€", ""]);
  assert.deepEqual(pieces(bytes("😀é")), ["", "", "", "😀", "", "é", ""]);
});

Deno.test("text stream: pieces never break a character and add up to the text", () => {
  const texts = [
    "Grüße aus Köln",
    "naïve 日本語 text 👩‍🚀 and 🇳🇱",
    "  two  spaces\n\nlines\t ",
    "\u07ff\uffff\u{10ffff}",
    "a\ufffdb",
    "",
  ];
  for (const text of texts) {
    const ids = tokenizer.encode(text);
    const list = pieces(ids);
    assert.equal(list.join(""), tokenizer.decode(ids), text);
    if (!text.includes("\ufffd")) assert.ok(list.every((piece) => !piece.includes("\ufffd")), text);
    assert.ok(list.every((piece) => piece.isWellFormed()), text);
  }
});

Deno.test("text stream: bytes that are no character come out once that is certain", () => {
  const [lead, second] = bytes("€");
  const a = byteId(tokenizer, 0x41);
  assert.deepEqual(pieces([lead, second]), ["", "", "\ufffd\ufffd"]);
  assert.deepEqual(pieces([lead, a]), ["", "\ufffdA", ""]);
  assert.deepEqual(pieces([a, lead, ...bytes("€")]), ["A", "", "", "", "\ufffd€", ""]);
});

Deno.test("text stream: the space before a word comes with the word", () => {
  const ids = tokenizer.encode("one two");
  const list = pieces(ids);
  assert.equal(list.join(""), "one two");
  assert.ok(!list[0].startsWith(" "));
});
