/** Tokens to text as SentencePiece does it; tokenizer_test.ts compares with the library itself. */
import assert from "node:assert/strict";
import { decodePieces, pieceByte } from "../../../../model/text/tokenizer/pieces.ts";

const PIECES = ["▁", "▁▁", "▁a", "b", null, 0xe2, 0x96, 0x81, " c"];

Deno.test("pieces: what becomes of the first space", () => {
  // As models with add_dummy_prefix off, on, and with remove_extra_whitespaces decode.
  const cases: [number[], string, string, string][] = [
    [[2, 2], " a a", "a a", "a a"],
    [[0, 2], "  a", " a", "a"],
    [[1, 2], "   a", "  a", "  a"],
    [[0, 0, 3], "  b", " b", "b"],
    [[4, 0, 4, 3], " b", "b", "b"],
    [[3, 0], "b ", "b ", "b "],
    [[8, 0], " c ", " c ", " c "],
    [[], "", "", ""],
  ];
  for (const [ids, kept, dropped, all] of cases) {
    assert.equal(decodePieces(ids, PIECES, "kept"), kept, `${ids}`);
    assert.equal(decodePieces(ids, PIECES, "dropped"), dropped, `${ids}`);
    assert.equal(decodePieces(ids, PIECES, "all dropped"), all, `${ids}`);
  }
});

Deno.test("pieces: bytes join to characters, and a U+2581 made of bytes stays one", () => {
  assert.equal(decodePieces([3, 5, 6, 7, 3], PIECES, "kept"), "b\u2581b");
  assert.equal(decodePieces([5, 6, 3, 7], PIECES, "kept"), "\ufffd\ufffdb\ufffd");
  assert.equal(decodePieces([5, 5, 6, 7], PIECES, "kept"), "\ufffd\u2581");
});

Deno.test("pieces: ids that are not listed add nothing", () => {
  assert.equal(decodePieces([3, 99, -1, 3], PIECES, "kept"), "bb");
});

Deno.test("pieces: the byte of a piece", () => {
  assert.deepEqual(
    ["<0x0A>", "<0xff>", "<0x0G>", "<0x0A> ", "a"].map(pieceByte),
    [10, 255, undefined, undefined, undefined],
  );
});
