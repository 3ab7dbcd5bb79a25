/** The files of a tokenizer for a new folder: what is carried over, what is made, and that both read alike. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { makeFiles } from "../../../../model/formats/carried_files.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { tokenizerFiles } from "../../../../model/text/tokenizer/tokenizer_files.ts";
import { ROOT } from "../../../../scripts/compile.ts";
import { fixturePath } from "../../../fixtures.ts";
import { fromSentencePiece } from "./tokenizer_files.ts";
import { variedTexts } from "./tokenizer_texts.ts";

const tiny = fixturePath("tiny_tokenizer.model");

/** A folder with files: JSON, or copies of others given by `copyOf`. */
function folderOf(root: string, files: Record<string, unknown>): string {
  const folder = Deno.makeTempDirSync({ dir: root });
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name);
    Deno.mkdirSync(dirname(path), { recursive: true });
    if (typeof content === "string") Deno.copyFileSync(content, path);
    else Deno.writeTextFileSync(path, JSON.stringify(content));
  }
  return folder;
}

/** The tokenizer's files in a new folder, as a model is written. */
async function written(root: string, path: string): Promise<string> {
  const folder = Deno.makeTempDirSync({ dir: root });
  Deno.writeTextFileSync(join(folder, "config.json"), '{"model_type": "llama"}');
  await makeFiles(folder, await tokenizerFiles(path));
  return folder;
}

const LLAMA = { tokenizer_class: "LlamaTokenizer", bos_token: "<s>", eos_token: "</s>" };

Deno.test("written tokenizers: read in the new folder as in the old", async () => {
  const root = Deno.makeTempDirSync();
  try {
    const added = {
      360: { content: "<|im_end|>", special: true, normalized: false, rstrip: true },
      361: { content: "<|im_start|>", special: false, normalized: true },
    };
    const builtin = join(ROOT, "examples/builtin/model");
    const sources = {
      "a tokenizer.model alone": tiny,
      "one with pieces that its maker defined": join(builtin, "tokenizer.model"),
      "legacy": folderOf(root, {
        "tokenizer.model": tiny,
        "tokenizer_config.json": { ...LLAMA, legacy: true, add_bos_token: true },
      }),
      "with added tokens": folderOf(root, {
        "tokenizer.model": tiny,
        "tokenizer_config.json": { ...LLAMA, eos_token: "<|im_end|>", added_tokens_decoder: added },
      }),
      "with older files": folderOf(root, {
        "tokenizer.model": tiny,
        "added_tokens.json": { "<pad>": 360 },
        "special_tokens_map.json": { pad_token: "<pad>", bos_token: "<s>" },
        "tokenizer_config.json": { ...LLAMA, add_bos_token: true, add_eos_token: true },
      }),
      "tokenizer.json without settings": folderOf(root, {
        "tokenizer.json": fromSentencePiece(tiny),
        "config.json": { model_type: "llama", eos_token_id: 2 },
      }),
    };
    const alpaca = "Below is an instruction that describes a task. Write a response that " +
      "appropriately completes the request.\n\n### Instruction:\nHi\n\n### Response:";
    const texts = [...variedTexts(300), alpaca, "\n\n### Response:", " a </s> b <s>c<|im_end|>  d"];
    for (const [name, path] of Object.entries(sources)) {
      const old = await loadTokenizer(path);
      const folder = await written(root, path);
      const now = await loadTokenizer(folder);
      for (const key of ["bos_id", "eos_id", "prefix_ids", "suffix_ids"] as const) {
        assert.deepEqual(now[key], old[key], `${name}: ${key}`);
      }
      for (const text of texts) {
        const shown = `${name}: ${JSON.stringify(text)}`;
        assert.deepEqual(now.encodeSpecial(text), old.encodeSpecial(text), shown);
        assert.deepEqual(now.encode(text), old.encode(text), shown);
      }
      assert.ok(Deno.statSync(join(folder, "tokenizer_config.json")).isFile, name);
      assert.ok(Deno.statSync(join(folder, "tokenizer.json")).isFile, name);
    }
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
});

Deno.test("written tokenizers: everything that was there is there, and settings stay", async () => {
  const root = Deno.makeTempDirSync();
  try {
    const folder = folderOf(root, {
      "tokenizer.model": tiny,
      "tokenizer_config.json": { ...LLAMA, add_bos_token: true, chat_template: "{{ 1 }}", mine: 3 },
      "special_tokens_map.json": { bos_token: "<s>" },
      "chat_template.jinja": {},
      "additional_chat_templates/rag.jinja": {},
    });
    const names = (await tokenizerFiles(folder)).map(({ name }) => name).sort();
    assert.deepEqual(names, [
      "additional_chat_templates/rag.jinja",
      "chat_template.jinja",
      "special_tokens_map.json",
      "tokenizer.json",
      "tokenizer.model",
      "tokenizer_config.json",
    ]);
    const config = JSON.parse(
      Deno.readTextFileSync(join(await written(root, folder), "tokenizer_config.json")),
    );
    assert.equal(config.chat_template, "{{ 1 }}");
    assert.equal(config.mine, 3);
    assert.equal(config.tokenizer_class, "PreTrainedTokenizerFast");
    assert.equal(config.eos_token, "</s>");
    // A folder that transformers reads as it is stays so.
    const whole = folderOf(root, {
      "tokenizer.json": fromSentencePiece(tiny),
      "tokenizer_config.json": LLAMA,
    });
    assert.ok((await tokenizerFiles(whole)).every(({ content }) => "copyOf" in content));
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
});
