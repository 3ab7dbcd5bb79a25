import assert from "node:assert/strict";
import {
  noteError,
  noteLine,
  printable,
  printableJson,
  printText,
  shortened,
  StyledText,
} from "../../kernels/terminal.ts";

/** What standard error is told meanwhile. */
function noted(print: () => void): string {
  const lines: string[] = [], { error } = console;
  console.error = (line: string) => void lines.push(line);
  try {
    print();
  } finally {
    console.error = error;
  }
  return lines.join("\n");
}

Deno.test("terminal: every control character is written out, and nothing else", () => {
  const obeyed = (code: number) =>
    code < 0x20 && code !== 9 && code !== 10 || code >= 0x7f && code < 0xa0 ||
    code >= 0x202a && code <= 0x202e || code >= 0x2066 && code <= 0x2069;
  for (let code = 0; code < 0x10000; code++) {
    const character = String.fromCharCode(code), shown = printable(`a${character}b`);
    if (!obeyed(code)) assert.equal(shown, `a${character}b`);
    else assert.match(shown, /^a\\(?:r|x[0-9a-f]{2}|u[0-9a-f]{4})b$/);
  }
  assert.equal(
    printable("\x1b]0;title\x07\x9b31m\u202egnp.exe"),
    "\\x1b]0;title\\x07\\x9b31m\\u202egnp.exe",
  );
  assert.equal(printable("one\r\ntwo\rthree\tfour"), "one\ntwo\\rthree\tfour");
  assert.equal(printable("𝄞 שלום 👩‍👧"), "𝄞 שלום 👩‍👧");
});

Deno.test("terminal: JSON is the same value without control characters", () => {
  const value = { "a\u009b": "\x1b[2J\u202e\u2069\x7f\n\t", n: [1.5, null] };
  for (const indent of [undefined, 2]) {
    const text = printableJson(value, indent);
    assert.equal(printable(text), text);
    assert.deepEqual(JSON.parse(text), value);
  }
});

Deno.test("terminal: long texts lose their middle, and no half of a character stays", () => {
  assert.equal(shortened("a".repeat(20), 20), "a".repeat(20));
  assert.equal(shortened("abcdefghijklmnopqrst", 11), "abcd...qrst");
  const notes = "𝄞".repeat(30);
  for (const most of [10, 11, 12, 13]) {
    const short = shortened(notes, most);
    assert.ok(short.length <= most && short.isWellFormed(), short);
  }
});

Deno.test("terminal: messages are bounded, whatever they quote", () => {
  const name = "x".repeat(20_000);
  const one = noted(() => noteError(`cannot read ${name}: it does not exist`));
  assert.match(one, /^error: cannot read x{100,}\.\.\.x{100,}: it does not exist$/);
  assert.ok(one.length <= 1000);
  const many = noted(() => noteError(Array(5000).fill(name).join("\n")));
  assert.ok(many.length < 70_000 && many.endsWith("\n..."), `${many.length}`);
  assert.equal(noted(() => noteLine("a\x07\nb")), "a\\x07\nb");
});

Deno.test("terminal: styled text has the program's codes and no others", () => {
  const text = StyledText.join(
    [StyledText.of("<s>\x1b[0m", "inverse"), StyledText.of("a\x07")],
    "dim",
  );
  assert.equal(text.codes, "\x1b[2m\x1b[7m<s>\\x1b[0m\x1b[27ma\\x07\x1b[22m");
});

Deno.test("terminal: a carriage return at the end of a piece comes with the next", () => {
  const { writeSync } = Deno.stdout, decoder = new TextDecoder();
  let written = "";
  Deno.stdout.writeSync = (bytes) => {
    written += decoder.decode(bytes);
    return bytes.length;
  };
  try {
    for (const piece of ["a\r", "\nb\r", "\r", "c\r", "", "\n"]) printText(piece);
  } finally {
    Deno.stdout.writeSync = writeSync;
  }
  assert.equal(written, "a\nb\\r\\rc\n");
});
