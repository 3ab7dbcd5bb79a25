import assert from "node:assert/strict";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { UserError } from "../../../../kernels/errors.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { vocabularyCheck } from "../../../../model/text/tokenizer/vocabulary_check.ts";
import { hasShared, sharedPath, sharedReason } from "../../../shared.ts";

const fixture = (name: string) =>
  fileURLToPath(new URL(`../../../fixtures/${name}`, import.meta.url));
const tiny = fixture("tiny_tokenizer.model");

interface Case {
  text: string;
  ids: number[];
  decoded: string;
}
const cases: Record<"tiny" | "llama", Case[]> = JSON.parse(
  Deno.readTextFileSync(fixture("tokenizer_ids.json")),
);

async function checkCases(path: string, expected: Case[]): Promise<void> {
  const tokenizer = await loadTokenizer(path);
  for (const { text, ids, decoded } of expected) {
    assert.deepEqual(tokenizer.encode(text), ids, `ids of ${JSON.stringify(text)}`);
    assert.equal(tokenizer.decode(ids), decoded, `decoded ids of ${JSON.stringify(text)}`);
  }
}

Deno.test("tokenizer: ids and text are those of Google's library, tiny model", async () => {
  assert.ok(cases.tiny.length >= 30);
  await checkCases(tiny, cases.tiny);
});

Deno.test({
  name: `tokenizer: ids and text are those of Google's library, Llama 2${sharedReason}`,
  ignore: !hasShared,
  async fn() {
    const tokenizer = await loadTokenizer(sharedPath("llama2"));
    assert.equal(tokenizer.vocab_size, 32000);
    assert.deepEqual([tokenizer.bos_id, tokenizer.eos_id], [1, 2]);
    await checkCases(sharedPath("llama2/tokenizer.model"), cases.llama);
  },
});

Deno.test("tokenizer: decode skips control tokens and ids outside the vocabulary", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const ids = tokenizer.encode("Name a bird");
  const { eos_id, vocab_size } = tokenizer, bos_id = tokenizer.bos_id!;
  const noisy = [bos_id, ...ids.slice(0, 2), vocab_size, eos_id, -1, ...ids.slice(2), eos_id];
  assert.equal(tokenizer.decode(noisy), "Name a bird");
  assert.equal(tokenizer.decode([bos_id, eos_id]), "");
  assert.equal(tokenizer.decode([]), "");
  assert.equal(vocab_size, 360);
});

Deno.test("tokenizer: control tokens in a text stay text", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const ids = tokenizer.encode("<s>x</s>");
  assert.ok(!ids.includes(tokenizer.bos_id!) && !ids.includes(tokenizer.eos_id));
  assert.equal(tokenizer.decode(ids), "<s>x</s>");
});

Deno.test("tokenizer: control tokens in a rendered template become their ids", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const { eos_id } = tokenizer, bos_id = tokenizer.bos_id!;
  assert.deepEqual([...tokenizer.special_tokens], [["<unk>", 0], ["<s>", bos_id], [
    "</s>",
    eos_id,
  ]]);
  const [name, bird] = [tokenizer.encode("Name a"), tokenizer.encode(" bird <pad>")];
  const ids = [bos_id, ...name, eos_id, eos_id, ...bird];
  assert.deepEqual(tokenizer.encodeSpecial("<s>Name a</s></s> bird <pad>"), ids);
  assert.deepEqual(
    tokenizer.encodeParts([bos_id, "Na", "me a", eos_id, eos_id, " bird <pad>"]),
    ids,
  );
  assert.deepEqual(tokenizer.encodeSpecial(""), []);
});

Deno.test("tokenizer: the library's encoder and our decoder keep a byte order mark", async () => {
  const tokenizer = await loadTokenizer(tiny);
  for (
    const text of ["\ufeffa text of more than sixteen bytes", "a\0\ufeffand again, after a NUL"]
  ) {
    assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  }
});

Deno.test("tokenizer: decoding of any ids is that of Google's library", async () => {
  // Python's sentencepiece 0.1.97 on the same ids; byte b is id b + 3, 0 is <unk> and 2 </s>.
  const tokenizer = await loadTokenizer(tiny);
  const bytes = (...values: number[]) => values.map((value) => value + 3);
  const cases: [number[], string][] = [
    [[0, ...bytes(0x41)], " \u2047 A"],
    [bytes(0xe2, 0x82, 0xac, 0xe2, 0x82), "€\ufffd\ufffd"],
    [bytes(0xed, 0xa0, 0x80, 0xf4, 0x90, 0x80, 0x80, 0xc0, 0x80), "\ufffd".repeat(9)],
    [[...bytes(0xe2, 0x82), 2, ...bytes(0xac)], "\ufffd\ufffd\ufffd"],
    [bytes(0xef, 0xbb, 0xbf, 0x20), "\ufeff "],
  ];
  for (const [ids, text] of cases) assert.equal(tokenizer.decode(ids), text);
});

Deno.test("tokenizer: a lone surrogate becomes U+FFFD and spares its neighbours", async () => {
  const tokenizer = await loadTokenizer(tiny);
  assert.equal(tokenizer.decode(tokenizer.encode("a\ud800b\udc00")), "a\ufffdb\ufffd");
});

Deno.test("tokenizer: a long text works and comes back", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const text = "word and more \n".repeat(5000);
  assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
});

Deno.test("tokenizer: loading leaves no process-wide error handlers behind", async () => {
  const count = () =>
    process.listenerCount("uncaughtException") + process.listenerCount("unhandledRejection");
  const before = count();
  await loadTokenizer(tiny);
  assert.equal(count(), before);
});

/** A protocol buffer field of wire type 2. */
function field(number: number, bytes: Uint8Array | string): number[] {
  const data = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
  const tag = number * 8 + 2;
  const head = tag < 128 ? [tag] : [tag % 128 + 128, Math.floor(tag / 128)];
  assert.ok(data.length < 128);
  return [...head, data.length, ...data];
}

Deno.test("tokenizer: files that are none are refused in one sentence", async () => {
  const folder = await Deno.makeTempDir();
  const whole = Deno.readFileSync(tiny);
  const piece = field(1, Uint8Array.from([...field(1, "a"), 0x18, 1]));
  const settings = [...field(2, ""), ...field(3, "")];
  const files: [string, Uint8Array, RegExp][] = [
    [
      "empty",
      Uint8Array.from(settings),
      /holds no pieces: it is truncated or not a SentencePiece model/,
    ],
    [
      "half",
      whole.slice(0, whole.length >> 1),
      /ends before its settings: it is truncated or not a SentencePiece model/,
    ],
    ["inside", whole.slice(0, 1234), /ends inside a field: it is truncated/],
    ["tail", whole.slice(0, -3), /truncated or not a SentencePiece model/],
    ["text", new TextEncoder().encode('{"model": 1}'), /truncated or not a SentencePiece model/],
    [
      "tiktoken",
      new TextEncoder().encode("IQ== 0\nIg== 1\nIw== 2\n"),
      /is in tiktoken's format, which is not read; expected .* tokenizer\.json/,
    ],
    ["endless", new Uint8Array(40).fill(255), /more than 64 bits/],
    [
      "bare",
      Uint8Array.from([...piece, ...settings]),
      /no control token for the beginning \(BOS\)/,
    ],
  ];
  try {
    for (const [name, bytes, message] of files) {
      const path = `${folder}/${name}.model`;
      Deno.writeFileSync(path, bytes);
      await assert.rejects(loadTokenizer(path), (error) => {
        assert.ok(error instanceof UserError, `${name}: ${error}`);
        assert.match(error.message, message);
        assert.ok(error.message.includes(path));
        return true;
      });
    }
    // Pieces that the file's structure allows but the library doesn't: no unknown token.
    const control = (text: string) => field(1, Uint8Array.from([...field(1, text), 0x18, 3]));
    Deno.writeFileSync(
      `${folder}/tokenizer.model`,
      Uint8Array.from([...control("<s>"), ...control("</s>"), ...piece, ...settings]),
    );
    await assert.rejects(
      loadTokenizer(folder),
      (error) => error instanceof UserError && /no SentencePiece model .* unk/.test(error.message),
    );
    Deno.removeSync(`${folder}/tokenizer.model`);
    await assert.rejects(
      loadTokenizer(folder),
      (error) =>
        error instanceof UserError &&
        /holds no tokenizer\.model or tokenizer\.json;/.test(error.message),
    );
    await assert.rejects(
      loadTokenizer(`${folder}/missing`),
      (error) => error instanceof UserError && /does not exist/.test(error.message),
    );
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("tokenizer: read permission for the file is all it needs", async () => {
  const script = `
    const { loadTokenizer } = await import(${
    JSON.stringify(new URL("../../../../model/text/tokenizer/load.ts", import.meta.url).href)
  });
    const tokenizer = await loadTokenizer(${JSON.stringify(tiny)});
    console.log(JSON.stringify(tokenizer.encode("Hello world")));`;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(file, script);
    const config = fileURLToPath(new URL("../../../../deno.json", import.meta.url));
    const { stdout, stderr, code } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--quiet", `--config=${config}`, `--allow-read=${tiny}`, file],
    }).output();
    assert.equal(code, 0, new TextDecoder().decode(stderr));
    const expected = cases.tiny.find(({ text }) => text === "Hello world")?.ids;
    assert.deepEqual(JSON.parse(new TextDecoder().decode(stdout)), expected);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("tokenizer: more ids than the model's vocabulary is refused by both numbers", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const files = { tokenizer: "t.model", model: "m" };
  vocabularyCheck(tokenizer, 360, files);
  vocabularyCheck(tokenizer, 384, files);
  assert.throws(
    () => vocabularyCheck(tokenizer, 359, files),
    (error) =>
      error instanceof UserError && /"t\.model" has 360 ids.*"m".* 359/.test(error.message),
  );
});
