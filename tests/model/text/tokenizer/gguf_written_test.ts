/** Tokenizers written into GGUF files give the same ids there; those that GGUF can't hold are refused. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { presetConfig } from "../../../../model/families/presets.ts";
import { flag } from "../../../../model/formats/gguf/values.ts";
import { writeGguf } from "../../../../model/formats/gguf/write_gguf.ts";
import { tokenizerMetadata } from "../../../../model/text/tokenizer/gguf_metadata.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { ROOT } from "../../../../scripts/compile.ts";
import { fixturePath } from "../../../fixtures.ts";
import { variedTexts } from "./tokenizer_texts.ts";

/** Writes the tokenizer at a path for a model of some rows more, and compares the two. */
async function roundTrip(path: string): Promise<void> {
  const original = await loadTokenizer(path), folder = Deno.makeTempDirSync();
  try {
    const vocab_size = original.vocab_size + 3, config = { ...presetConfig("tiny"), vocab_size };
    const file = join(folder, "vocabulary.gguf");
    await writeGguf(file, await tokenizerMetadata(path, { model: "made", config }), []);
    const written = await loadTokenizer(file);
    assert.equal(written.vocab_size, vocab_size);
    assert.equal(written.eos_id, original.eos_id);
    assert.deepEqual(written.prefix_ids, original.prefix_ids);
    assert.deepEqual(written.suffix_ids, original.suffix_ids);
    for (const text of variedTexts(200)) {
      const ids = original.encode(text);
      assert.deepEqual(written.encode(text), ids, JSON.stringify(text));
      assert.equal(written.decode(ids), original.decode(ids));
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("gguf tokenizers: SentencePiece's is written: a file, a folder, another GGUF file", async () => {
  await roundTrip(fixturePath("tiny_tokenizer.model"));
  await roundTrip(join(ROOT, "examples/builtin/model"));
  await roundTrip(fixturePath("gguf/sentencepiece.gguf"));
});

/** What is said on stderr while a tokenizer is written for a model with so many rows. */
async function said(path: string, vocab_size: number) {
  const lines: string[] = [], { error } = console;
  console.error = (line: string) => void lines.push(line);
  try {
    const config = { ...presetConfig("tiny"), vocab_size };
    return { lines, metadata: await tokenizerMetadata(path, { model: "made", config }) };
  } finally {
    console.error = error;
  }
}

Deno.test("gguf tokenizers: extra spaces that only llama.cpp keeps are told of", async () => {
  const folder = Deno.makeTempDirSync(), file = join(folder, "vocabulary.gguf");
  try {
    const path = fixturePath("tiny_tokenizer.model"), { vocab_size } = await loadTokenizer(path);
    const plain = await said(path, vocab_size);
    assert.deepEqual(plain.lines, []);
    plain.metadata.set("tokenizer.ggml.remove_extra_whitespaces", flag(true));
    await writeGguf(file, plain.metadata, []);
    const { lines, metadata } = await said(file, vocab_size);
    assert.deepEqual(metadata.get("tokenizer.ggml.remove_extra_whitespaces"), flag(true));
    assert.equal(lines.length, 1);
    assert.match(lines[0], /llama\.cpp keeps them: its ids of such texts will be others\.$/);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

interface Kind {
  name: string;
  files: Record<string, unknown>;
}

const { kinds }: { kinds: Kind[] } = JSON.parse(
  new TextDecoder().decode(gunzipSync(Deno.readFileSync(fixturePath("tokenizers/kinds.json.gz")))),
);

/** A folder of some kind. */
async function inFolder(kind: number, use: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync();
  try {
    for (const [name, content] of Object.entries(kinds[kind].files)) {
      const bytes = typeof content === "string"
        ? Uint8Array.fromBase64(content)
        : new TextEncoder().encode(JSON.stringify(content));
      Deno.writeFileSync(join(folder, name), bytes);
    }
    await use(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

for (const kind of [6, 9]) {
  Deno.test(`gguf tokenizers: ${kinds[kind].name} is written`, () => inFolder(kind, roundTrip));
}

const REFUSED: [kind: number, message: RegExp][] = [
  [7, /cuts texts in a way that llama\.cpp has no name for: pre_tokenizer is .*, expected that of/],
  [13, /is a Unigram model, which is not written to GGUF; expected BPE/],
];

for (const [kind, message] of REFUSED) {
  Deno.test(`gguf tokenizers: ${kinds[kind].name}: refused`, async () => {
    await inFolder(kind, (folder) => assert.rejects(roundTrip(folder), message));
  });
}
