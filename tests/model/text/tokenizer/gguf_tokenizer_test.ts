/**
 * Tokenizers of GGUF files against those that their vocabularies are from: transformers 5.18 and the Rust library for
 * byte-level ones (make_tokenizers.py), SentencePiece for those of pieces.
 */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";
import {
  findChatTemplate,
  hasChatTemplate,
} from "../../../../model/text/templates/chat_template.ts";
import { makeFiles } from "../../../../model/formats/carried_files.ts";
import { readSentencePieceFile } from "../../../../model/text/tokenizer/sentencepiece/sentencepiece_file.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { tokenizerFiles } from "../../../../model/text/tokenizer/tokenizer_files.ts";
import { PRE_NAMES, preNameOf } from "../../../../model/text/tokenizer/gguf/pre_tokenizers.ts";
import type { Tokenizer } from "../../../../model/text/tokenizer/tokenizer.ts";
import { fixturePath } from "../../../fixtures.ts";
import { ggufBytes, value, type ValueToWrite } from "../../formats/gguf/gguf_writer.ts";
import { variedTexts } from "./tokenizer_texts.ts";

type Entries = Record<string, ValueToWrite>;

/** What a file of these entries is good for, before it is gone. */
async function withFile<T>(entries: Entries, use: (path: string) => T | Promise<T>): Promise<T> {
  const path = join(Deno.makeTempDirSync(), "vocabulary.gguf");
  try {
    Deno.writeFileSync(path, ggufBytes({ metadata: Object.entries(entries), tensors: [] }));
    return await use(path);
  } finally {
    Deno.removeSync(dirname(path), { recursive: true });
  }
}

const load = (entries: Entries) => withFile(entries, loadTokenizer);

const texts = (list: readonly string[]) => value.list(list.map(value.text), 8);

/** A SentencePiece model as its conversion writes it. */
function piecesOf(path: string): Entries {
  const { pieces, bos_id, eos_id, unk_id } = readSentencePieceFile(path);
  return {
    "tokenizer.ggml.model": value.text("llama"),
    "tokenizer.ggml.tokens": texts(pieces.map(({ piece }) => piece)),
    "tokenizer.ggml.scores": value.list(pieces.map(({ score }) => value.f32(score))),
    "tokenizer.ggml.token_type": value.list(pieces.map(({ type }) => value.i32(type))),
    "tokenizer.ggml.bos_token_id": value.u32(bos_id),
    "tokenizer.ggml.eos_token_id": value.u32(eos_id),
    "tokenizer.ggml.unknown_token_id": value.u32(unk_id),
  };
}

Deno.test("gguf tokenizers: pieces: 400 texts as SentencePiece, there and back", async () => {
  const original = await loadTokenizer(fixturePath("tiny_tokenizer.model"));
  const read = await loadTokenizer(fixturePath("gguf/sentencepiece.gguf"));
  assert.equal(read.vocab_size, original.vocab_size);
  assert.deepEqual([...read.named_tokens].toSorted(), [...original.named_tokens].toSorted());
  for (const text of variedTexts(400)) {
    const shown = JSON.stringify(text), ids = original.encode(text);
    assert.deepEqual(read.encode(text), ids, shown);
    assert.deepEqual(read.encodeText(text), original.encodeText(text), shown);
    assert.equal(read.decode(ids), original.decode(ids), shown);
  }
});

Deno.test("gguf tokenizers: pieces: BOS, EOS and the space before a text as the file says", async () => {
  const entries = piecesOf(fixturePath("tiny_tokenizer.model"));
  const plain = await load(entries);
  assert.deepEqual([plain.prefix_ids, plain.suffix_ids], [[1], []]);
  const changed = await load({
    ...entries,
    "tokenizer.ggml.add_bos_token": value.bool(false),
    "tokenizer.ggml.add_eos_token": value.bool(true),
    "tokenizer.ggml.add_space_prefix": value.bool(false),
  });
  assert.deepEqual([changed.prefix_ids, changed.suffix_ids], [[], [2]]);
  assert.deepEqual(changed.encode(" a bird"), plain.encode("a bird"));
  assert.equal(changed.decode(changed.encode("bird")), "bird");
});

interface Kind {
  name: string;
  files: Record<string, unknown>;
  expected: { ids: number[][]; bos_token_id: number | null };
}

interface TokenizerJson {
  model: { vocab: Record<string, number>; merges: (string | [string, string])[] };
  added_tokens: { id: number; content: string; special: boolean }[];
  post_processor: unknown;
}

const fixture: { texts: string[]; kinds: Kind[] } = JSON.parse(
  new TextDecoder().decode(gunzipSync(Deno.readFileSync(fixturePath("tokenizers/kinds.json.gz")))),
);

/** A byte-level tokenizer as its conversion writes it. */
function bytesOf({ files }: Kind, pre: string): Entries {
  const { model, added_tokens } = files["tokenizer.json"] as TokenizerJson;
  const config = files["tokenizer_config.json"] as Record<string, string>;
  const added = new Map(added_tokens.map((token) => [token.content, token]));
  const ids = { ...model.vocab };
  for (const { content, id } of added_tokens) ids[content] = id;
  const tokens = Object.entries(ids).sort(([, a], [, b]) => a - b).map(([token]) => token);
  assert.deepEqual(tokens.map((token) => ids[token]), [...tokens.keys()]);
  const type = (token: string) =>
    added.get(token) === undefined ? 1 : added.get(token)?.special ? 3 : 4;
  const named = ["bos", "eos"].flatMap((name) => {
    const id = ids[config[`${name}_token`] ?? ""];
    return id === undefined ? [] : [[`tokenizer.ggml.${name}_token_id`, value.u32(id)] as const];
  });
  return {
    "tokenizer.ggml.model": value.text("gpt2"),
    "tokenizer.ggml.pre": value.text(pre),
    "tokenizer.ggml.tokens": texts(tokens),
    "tokenizer.ggml.token_type": value.list(tokens.map((token) => value.i32(type(token)))),
    "tokenizer.ggml.merges": texts(model.merges.map((pair) => [pair].flat().join(" "))),
    ...Object.fromEntries(named),
  };
}

/** Kinds, and what GGUF calls their way to cut words. One of them puts a space before a text, which GGUF can't say. */
const BYTE_LEVEL: [kind: number, pre: string, spaced: boolean][] = [
  [6, "llama-bpe", false],
  [8, "gpt-2", true],
  [9, "qwen2", false],
];

for (const [index, pre, spaced] of BYTE_LEVEL) {
  const kind = fixture.kinds[index], { ids: expected, bos_token_id: bos } = kind.expected;
  Deno.test(`gguf tokenizers: ${kind.name} as ${pre}: 600 texts as transformers`, async () => {
    const tokenizer = await load({
      ...bytesOf(kind, pre),
      "tokenizer.ggml.add_bos_token": value.bool(expected.every((ids) => ids[0] === bos)),
    });
    const { prefix_ids, suffix_ids, special_tokens } = tokenizer;
    const controls = [...special_tokens.keys()];
    let compared = 0;
    fixture.texts.forEach((text, i) => {
      if (spaced && controls.some((token) => text.includes(token))) return;
      const whole = spaced && text !== "" && !text.startsWith(" ") ? ` ${text}` : text;
      const ids = [...prefix_ids, ...tokenizer.encodeSpecial(whole), ...suffix_ids];
      assert.deepEqual(ids, expected[i], JSON.stringify(text));
      compared++;
    });
    assert.ok(compared > 400, `${compared} texts`);
  });
}

Deno.test("gguf tokenizers: every name cuts texts into what they are made of", async () => {
  const entries = bytesOf(fixture.kinds[8], "gpt-2");
  for (const pre of PRE_NAMES) {
    const tokenizer: Tokenizer = await load({ ...entries, "tokenizer.ggml.pre": value.text(pre) });
    for (const text of variedTexts(200)) {
      const normal = /qwen2|stablelm|megrez|command-r|r1-qwen/.test(pre)
        ? text.normalize("NFC")
        : text;
      assert.equal(
        tokenizer.decode(tokenizer.encode(text)),
        normal.toWellFormed(),
        `${pre}: ${text}`,
      );
    }
  }
});

Deno.test("gguf tokenizers: a pattern with line breaks has the name of the one with escapes", () => {
  const nameOf = (breaks: string) => {
    const regex = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^${breaks}\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}` +
      `| ?[^\\s\\p{L}\\p{N}${breaks}]+|\\s*[${breaks}]+|\\s+(?!\\S)|\\s+`;
    const split = { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false };
    const bytes = { type: "ByteLevel", add_prefix_space: false, use_regex: false };
    const pre_tokenizer = { type: "Sequence", pretokenizers: [split, bytes] };
    return preNameOf({ normalizer: null, pre_tokenizer, ignore_merges: false });
  };
  assert.deepEqual([nameOf("\r\n"), nameOf("\\r\\n")], ["seed-coder", "seed-coder"]);
});

Deno.test("gguf tokenizers: written for transformers they give the same ids", async () => {
  for (const file of ["sentencepiece.gguf", "byte_level-00001-of-00003.gguf"]) {
    const path = fixturePath(`gguf/${file}`), folder = Deno.makeTempDirSync();
    try {
      await makeFiles(folder, await tokenizerFiles(path));
      const [read, written] = [await loadTokenizer(path), await loadTokenizer(folder)];
      for (const text of variedTexts(200)) {
        assert.deepEqual(written.encodeText(text), read.encodeText(text), JSON.stringify(text));
      }
      assert.equal(hasChatTemplate(folder), hasChatTemplate(path));
      if (!hasChatTemplate(path)) continue;
      assert.equal(findChatTemplate(folder).source, findChatTemplate(path).source);
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  }
});

Deno.test("gguf tokenizers: control tokens, and those that end an answer, are found in chats alone", async () => {
  const entries = bytesOf(fixture.kinds[8], "gpt-2");
  const tokenizer = await load(entries);
  for (const [text, id] of tokenizer.special_tokens) {
    assert.deepEqual(tokenizer.encodeSpecial(`a${text}b`).filter((other) => other === id), [id]);
    assert.ok(!tokenizer.encode(`a${text}b`).includes(id), text);
  }
});

Deno.test("gguf tokenizers: chat templates by their names", async () => {
  const entries = {
    "tokenizer.chat_template": value.text("main"),
    "tokenizer.chat_templates": texts(["tool_use"]),
    "tokenizer.chat_template.tool_use": value.text("with tools"),
  };
  await withFile(entries, (path) => {
    assert.deepEqual(findChatTemplate(path), { source: "main", file: path });
    assert.equal(findChatTemplate(path, { tools: true }).source, "with tools");
    assert.throws(() => findChatTemplate(path, { name: "x" }), /no chat template named "x"/);
  });
  await withFile({}, (path) => {
    assert.ok(!hasChatTemplate(path));
    assert.throws(() => findChatTemplate(path), /has no tokenizer\.chat_template: the model has/);
  });
});

Deno.test("gguf tokenizers: a file that does not say how texts are cut is read as llama.cpp does, and says so", async () => {
  const entries = bytesOf(fixture.kinds[8], "default");
  const { "tokenizer.ggml.pre": _, ...silent } = entries;
  const named = await load(entries), said: string[] = [], { error } = console;
  console.error = (line: string) => said.push(line);
  try {
    const unnamed = await load(silent);
    for (const text of variedTexts(50)) assert.deepEqual(unnamed.encode(text), named.encode(text));
  } finally {
    console.error = error;
  }
  assert.match(said.join("\n"), /does not say how its texts are cut \(tokenizer\.ggml\.pre\)/);
  assert.equal(said.length, 1);
});

Deno.test("gguf tokenizers: what is not supported is refused by its key", async () => {
  const bytes = bytesOf(fixture.kinds[8], "gpt-2");
  const { "tokenizer.ggml.merges": _, ...unmerged } = bytes;
  const { "tokenizer.ggml.eos_token_id": __, ...endless } = bytes;
  const cases: [Entries, RegExp][] = [
    [{}, /: holds no tokenizer; name one with --tokenizer$/],
    [
      { ...bytes, "tokenizer.ggml.model": value.text("bert") },
      /tokenizer\.ggml\.model is "bert", expected "llama" or/,
    ],
    [
      { ...bytes, "tokenizer.ggml.pre": value.text("klingon") },
      /tokenizer\.ggml\.pre is "klingon", expected one of/,
    ],
    [
      { ...bytes, "tokenizer.ggml.merges": texts(["ab"]) },
      /tokenizer\.ggml\.merges holds "ab", expected two/,
    ],
    [
      { ...bytes, "tokenizer.ggml.token_type": value.list([value.i32(1)]) },
      /token_type is "a list of 1", expected/,
    ],
    [
      { ...bytes, "tokenizer.ggml.tokens": value.u8(1) },
      /tokenizer\.ggml\.tokens is 1, expected a list of texts/,
    ],
    [unmerged, /tokenizer\.ggml\.merges is missing, expected the merges/],
    [endless, /tokenizer\.ggml\.eos_token_id is missing, expected the id of a token/],
  ];
  for (const [entries, message] of cases) await assert.rejects(() => load(entries), message);
});
