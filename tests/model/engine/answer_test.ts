/** Answers: whole characters, and stop texts of which nothing is printed. */
import assert from "node:assert/strict";
import { Answer } from "../../../model/engine/answer.ts";

/** Gives an answer these tokens, texts or bytes, until it stops; then ends it. */
function answer(tokens: readonly (string | readonly number[])[], stops: readonly string[]) {
  const encoder = new TextEncoder();
  const bytes = tokens.map((token) =>
    typeof token === "string" ? [...encoder.encode(token)] : token
  );
  const decode = (ids: readonly number[]) =>
    new TextDecoder().decode(Uint8Array.from(ids.flatMap((id) => bytes[id])));
  const printed: string[] = [];
  const answer = new Answer(decode, stops, (text) => printed.push(text));
  const taken = tokens.findIndex((_, id) => !answer.push(id)) + 1 || tokens.length;
  const { stopped, text } = answer;
  const before = [...printed];
  answer.end();
  assert.deepEqual(answer.ids, [...Array(taken).keys()]);
  assert.equal(printed.join(""), answer.text);
  if (stopped) assert.equal(answer.text, text, "nothing comes after a stop text");
  return { text: answer.text, printed: before, stopped: answer.stopped, taken };
}

Deno.test("answer: without stop texts every token is printed as it comes", () => {
  assert.deepEqual(answer(["one", " two", " three"], []), {
    text: "one two three",
    printed: ["one", " two", " three"],
    stopped: false,
    taken: 3,
  });
});

Deno.test("answer: a stop text over several tokens ends it, and none of it is printed", () => {
  assert.deepEqual(answer(["The end", ", S", "TO", "P now", " more"], ["STOP"]), {
    text: "The end, ",
    printed: ["The end", ", "],
    stopped: true,
    taken: 4,
  });
  const whole = answer(["a STOP b", "c"], ["STOP"]);
  assert.deepEqual([whole.text, whole.taken], ["a ", 1]);
});

Deno.test("answer: what only began like a stop text is printed when that is certain", () => {
  const released = answer(["a ST", "ILL", " b"], ["STOP"]);
  assert.deepEqual(released.printed, ["a ", "STILL", " b"]);
  const held = answer(["a ", "ST", "O"], ["STOP"]);
  assert.deepEqual([held.printed, held.text, held.stopped], [["a "], "a STO", false]);
  const again = answer([..."ababab!"], ["abab!"]);
  assert.deepEqual([again.text, again.printed], ["ab", ["ab"]]);
});

Deno.test("answer: of several stop texts the earliest ends it", () => {
  for (const stops of [["end", "the"], ["the", "end"]]) {
    assert.equal(answer(["say ", "the end"], stops).text, "say ");
  }
  assert.equal(answer(["a\n##", "# b"], ["###", "\n###"]).text, "a");
});

Deno.test("answer: a stop text at the very start leaves an empty answer", () => {
  const nothing = { text: "", printed: [], stopped: true };
  assert.deepEqual(answer(["ST", "OP", "x"], ["STOP"]), { ...nothing, taken: 2 });
});

Deno.test("answer: characters of several tokens come whole, in stop texts too", () => {
  const [euro, bird] = ["€", "🦜"].map((text) => [...new TextEncoder().encode(text)]);
  const split = [...euro, ...bird].map((byte) => [byte]);
  assert.deepEqual(answer(["a", ...split, "b"], []).printed, ["a", "€", "🦜", "b"]);
  assert.deepEqual(answer(["a", ...split, "b"], ["🦜"]), {
    text: "a€",
    printed: ["a", "€"],
    stopped: true,
    taken: 8,
  });
  // A bird of the same first bytes is another character.
  const other = [...new TextEncoder().encode("🦩")].map((byte) => [byte]);
  assert.equal(answer(other, ["🦜"]).text, "🦩");
  // The end may leave a character unfinished, and that may complete a stop text.
  assert.deepEqual(answer(["a", euro.slice(0, 2)], []), {
    text: "a\ufffd",
    printed: ["a"],
    stopped: false,
    taken: 2,
  });
  assert.deepEqual(answer(["a", euro.slice(0, 2)], ["\ufffd"]), {
    text: "a",
    printed: ["a"],
    stopped: true,
    taken: 2,
  });
});

/** Every text over two letters of a length. */
function texts(length: number): string[] {
  return length === 0 ? [""] : texts(length - 1).flatMap((text) => [`${text}a`, `${text}b`]);
}

Deno.test("answer: every text of 7 letters with every one or two stop texts of up to 3", () => {
  const stops = [1, 2, 3].flatMap(texts);
  let ended = 0;
  for (const [i, one] of stops.entries()) {
    for (const pair of stops.slice(i).map((two) => one === two ? [one] : [one, two])) {
      for (const text of texts(7)) {
        // The first prefix that holds a stop text, cut where that begins.
        let length = 1;
        while (length < 7 && !pair.some((stop) => text.slice(0, length).includes(stop))) length++;
        const prefix = text.slice(0, length);
        const found = pair.map((stop) => prefix.indexOf(stop)).filter((at) => at >= 0);
        const expected = found.length > 0 ? prefix.slice(0, Math.min(...found)) : text;
        const { text: actual, stopped, taken } = answer([...text], pair);
        const same = actual === expected && stopped === found.length > 0 && taken === length;
        assert.ok(same, `${text} with stops ${pair}: ${actual}, expected ${expected}`);
        ended += found.length > 0 ? 1 : 0;
      }
    }
  }
  assert.ok(ended > 5000);
});
