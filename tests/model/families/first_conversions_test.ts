/** Folders of the first conversions of LLaMA, with the tokenizer's settings that they had. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { presetConfig } from "../../../model/families/presets.ts";
import { modernTokenizerConfig } from "../../../model/families/first_conversions.ts";
import { stopTokens } from "../../../model/text/tokenizer/stop_tokens.ts";
import { loadTokenizer } from "../../../model/text/tokenizer/load.ts";
import { tokenizerFiles } from "../../../model/text/tokenizer/tokenizer_files.ts";
import { fixturePath } from "../../fixtures.ts";

const EMPTY = { bos_token: "", eos_token: "", unk_token: "" };

Deno.test("their tokenizer is tokenizer.model's own, with BOS and a space before a text", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    const tiny = fixturePath("tiny_tokenizer.model");
    Deno.copyFileSync(tiny, join(folder, "tokenizer.model"));
    const write = (name: string, json: unknown) =>
      Deno.writeTextFileSync(join(folder, name), JSON.stringify(json));
    const ids = { bos_token_id: 0, eos_token_id: 1, pad_token_id: -1 };
    write("config.json", { architectures: ["LLaMAForCausalLM"], model_type: "llama", ...ids });
    write("generation_config.json", { ...ids, pad_token_id: 0 });
    write("tokenizer_config.json", { ...EMPTY, tokenizer_class: "LLaMATokenizer" });
    write("special_tokens_map.json", {});
    const tokenizer = await loadTokenizer(folder), own = await loadTokenizer(tiny);
    assert.deepEqual([tokenizer.bos_id, tokenizer.eos_id, tokenizer.prefix_ids], [1, 2, [1]]);
    for (const text of ["Give three tips", "a", "two\nlines"]) {
      assert.deepEqual(tokenizer.encode(text), own.encode(text), text);
    }
    assert.deepEqual(stopTokens(presetConfig("tiny"), tokenizer, folder), [2]);
    // What is written in their place names the tokens: with "" transformers 5 does not open it.
    const file = (await tokenizerFiles(folder)).find(({ name }) =>
      name === "tokenizer_config.json"
    );
    assert.ok(file !== undefined && "text" in file.content);
    const { bos_token, eos_token, unk_token, add_bos_token } = JSON.parse(file.content.text);
    assert.deepEqual([bos_token, eos_token, unk_token, add_bos_token], [
      "<s>",
      "</s>",
      "<unk>",
      true,
    ]);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("settings of any other class stay as they are", () => {
  for (const tokenizer_class of ["LlamaTokenizer", "PreTrainedTokenizerFast", undefined]) {
    const json = { ...EMPTY, tokenizer_class };
    assert.equal(modernTokenizerConfig(json), json);
  }
  assert.deepEqual(
    modernTokenizerConfig({
      ...EMPTY,
      unk_token: { content: "", lstrip: true },
      pad_token: "<pad>",
      add_bos_token: false,
      tokenizer_class: "LLaMATokenizer",
    }),
    { add_bos_token: false, legacy: true, pad_token: "<pad>", tokenizer_class: "LlamaTokenizer" },
  );
});
