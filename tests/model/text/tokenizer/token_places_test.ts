import assert from "node:assert/strict";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { splitter } from "../../../../model/text/tokenizer/token_places.ts";
import type { Tokenizer } from "../../../../model/text/tokenizer/tokenizer.ts";
import { fixturePath } from "../../../fixtures.ts";
import { fromSentencePiece } from "./tokenizer_files.ts";
import { SETTINGS, tiny, write } from "./tokenizer_folders.ts";

/** Texts with control tokens, blanks around them, and characters of several bytes. */
function texts({ special_tokens }: Tokenizer): string[] {
  const [first = "", second = first] = special_tokens.keys();
  return [
    "",
    "A parrot sings.",
    `  A parrot ${first} sings\n\n${second}${first}of 🦜, naïve “blue”.\n `,
    `${first}\n\nHello\n${second}`,
    `a${first.slice(0, -1)}b 12345 \t x`,
  ];
}

const TOKENIZERS: Record<string, string> = {
  SentencePiece: tiny,
  "SentencePiece as tokenizer.json": write(fromSentencePiece(tiny), SETTINGS),
  "bytes": fixturePath("chat_masks"),
};
for (const [name, path] of Object.entries(TOKENIZERS)) {
  Deno.test(`token places: sections make up the text and its ids, ${name}`, async () => {
    const tokenizer = await loadTokenizer(path);
    const isPlain = (start: number) => start % 3 === 0;
    for (const text of texts(tokenizer)) {
      for (const plain of [undefined, isPlain, () => true]) {
        const sections = tokenizer.encodeSections(text, plain);
        assert.deepEqual(sections.flatMap(({ ids }) => ids), tokenizer.encodeSpecial(text, plain));
        let at = 0;
        for (const { start, end, ids, split } of sections) {
          assert.equal(start, at);
          at = end;
          let before = 0;
          for (let i = start; i <= end; i++) {
            const [ended, begun] = split(i);
            assert.ok(before <= ended && ended <= begun && begun <= ended + 1, `${text}: ${i}`);
            before = ended;
          }
          assert.deepEqual([split(start), split(end)], [[0, 0], [ids.length, ids.length]]);
        }
        assert.equal(at, text.length);
      }
    }
  });
}

Deno.test("token places: where a token holds both sides of an offset", () => {
  // "ab", "c d" and "é" in two bytes.
  const bytes = [2, 3, 1, 1], ids = [0, 1, 2, 3], text = "abc dé";
  const split = splitter({ text, ids, bytesOf: (id) => bytes[id], encodeUpTo: () => ids });
  assert.deepEqual(
    Array.from({ length: 7 }, (_, at) => split(at)),
    [[0, 0], [0, 1], [1, 1], [1, 2], [1, 2], [2, 2], [4, 4]],
  );
  // A space that the tokenizer puts first is part of the first token.
  const spaced = splitter({
    text,
    ids,
    bytesOf: (id) => id ? bytes[id] : 3,
    encodeUpTo: () => ids,
  });
  assert.deepEqual([1, 2, 3].map(spaced), [[0, 1], [1, 1], [1, 2]]);
});

Deno.test("token places: by encoding beginnings, where what tokens stand for is not known", () => {
  const text = "a b c d", words = (text: string) => text.split(" ").map((word) => word.length);
  // Every word is a token of its own, with the space before it.
  const split = splitter({
    text,
    ids: words(text),
    bytesOf: () => undefined,
    encodeUpTo: (end) => words(text.slice(0, end).trimEnd()),
  });
  assert.deepEqual([1, 2, 3].map(split), [[1, 1], [1, 1], [2, 2]]);
  // A normalizer that makes two characters one: no beginning that ends between them is one.
  const merges = (text: string) => text.replaceAll("fi", "F").split("").map((c) => c.charCodeAt(0));
  const ligature = splitter({
    text: "afib",
    ids: merges("afib"),
    bytesOf: () => undefined,
    encodeUpTo: (end) => merges("afib".slice(0, end)),
  });
  assert.deepEqual([1, 2, 3].map(ligature), [[1, 1], [1, 2], [2, 2]]);
});
