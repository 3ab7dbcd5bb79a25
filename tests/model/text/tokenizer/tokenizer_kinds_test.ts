/** Tokenizers of many kinds against transformers 5.18 and the Rust library, made by make_tokenizers.py. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { pipelineTokenizer } from "../../../../model/text/tokenizer/pipeline_tokenizer.ts";
import type { Tokenizer } from "../../../../model/text/tokenizer/tokenizer.ts";
import { readTokenizerFolder } from "../../../../model/text/tokenizer/tokenizer_folder.ts";
import { fixturePath } from "../../../fixtures.ts";

/** A folder's files, and what transformers makes of them. */
interface Kind {
  name: string;
  /** JSON, or base64. */
  files: Record<string, unknown>;
  expected: {
    bos_token_id: number | null;
    eos_token_id: number | null;
    length: number;
    named: Record<string, string>;
    ids: number[][];
    /** With control tokens as letters; null where the Rust library makes one of letters. */
    plain: (number[] | null)[];
  };
}

const { texts, kinds }: { texts: string[]; kinds: Kind[] } = JSON.parse(
  new TextDecoder().decode(
    gunzipSync(Deno.readFileSync(fixturePath("tokenizers/kinds.json.gz"))),
  ),
);

/** Loads the tokenizer of a new folder with the files. */
async function load({ files }: Kind): Promise<Tokenizer> {
  const folder = Deno.makeTempDirSync();
  try {
    for (const [name, content] of Object.entries(files)) {
      const bytes = typeof content === "string"
        ? Uint8Array.fromBase64(content)
        : new TextEncoder().encode(JSON.stringify(content));
      Deno.writeFileSync(join(folder, name), bytes);
    }
    // A tokenizer.model alone is read as SentencePiece does; here as transformers would.
    return pipelineTokenizer(await readTokenizerFolder(folder));
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("tokenizer kinds: there are ten and more, and 600 texts", () => {
  assert.ok(kinds.length >= 10);
  assert.equal(new Set(texts).size, 600);
});

for (const kind of kinds) {
  const { name, expected } = kind;
  Deno.test(`tokenizer kinds: ${name}: 600 texts as transformers and the Rust library`, async () => {
    const tokenizer = await load(kind);
    const { bos_token_id, eos_token_id, length, named } = expected;
    assert.equal(tokenizer.bos_id ?? null, bos_token_id);
    assert.equal(tokenizer.eos_id, eos_token_id);
    assert.equal(tokenizer.vocab_size, length);
    assert.deepEqual(Object.fromEntries(tokenizer.named_tokens), named);
    const { prefix_ids, suffix_ids, bos_id, eos_id } = tokenizer;
    const control = new Set(tokenizer.special_tokens.values());
    texts.forEach((text, i) => {
      const shown = JSON.stringify(text);
      const ids = tokenizer.encodeSpecial(text);
      assert.deepEqual([...prefix_ids, ...ids, ...suffix_ids], expected.ids[i], shown);
      // What stands there already is not doubled, and everything else is as it was.
      const doubled =
        Number(bos_id !== undefined && prefix_ids.at(-1) === bos_id && ids[0] === bos_id) +
        Number(suffix_ids[0] === eos_id && ids.at(-1) === eos_id);
      assert.equal(tokenizer.encodeText(text).length, expected.ids[i].length - doubled, shown);
      const plain = tokenizer.encode(text), letters = expected.plain[i];
      if (letters !== null) assert.deepEqual(plain, letters, shown);
      const unknown = tokenizer.special_tokens.get(named.unk_token ?? "");
      assert.ok(plain.every((id) => id === unknown || !control.has(id)), shown);
    });
  });
}
