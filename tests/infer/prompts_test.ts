import assert from "node:assert/strict";
import { parseGenerateArguments } from "../../infer/generate_flags.ts";
import { preparePrompts } from "../../infer/prompts.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { textEncoder } from "../../model/text/tokenizer/text_encoding.ts";
import { loadTokenizer } from "../../model/text/tokenizer/load.ts";
import { TemporaryFolder } from "../cli/cli.ts";
import { fixturePath } from "../fixtures.ts";

Deno.test("prompts: one of a file without a template is the same as --prompt's, a tokenizer's end included", async () => {
  using folder = new TemporaryFolder();
  const tokenizerPath = fixturePath("tiny_tokenizer.model");
  const own = await loadTokenizer(tokenizerPath);
  const { bos_id, eos_id, prefix_ids: prefix, encodeSpecial } = own;
  const suffix = [eos_id];
  const encodeText = textEncoder({ bos_id, eos_id, prefix, suffix, encodeSpecial });
  const tokenizer = { ...own, suffix_ids: suffix, encodeText };
  const found = { source: openModel("random:tiny"), tokenizer, tokenizerPath };
  const prompts = (...args: string[]) =>
    preparePrompts(found, parseGenerateArguments(["--model", "random:tiny", ...args]));
  const texts = ["Hi </s> there", "<s>Hi", "Hi</s>"];
  const data = folder.file("rows.json", JSON.stringify(texts.map((prompt) => ({ prompt }))));
  const given = await prompts("--template", "none", ...texts.flatMap((text) => ["--prompt", text]));
  assert.deepEqual(given, texts.map(encodeText));
  assert.ok(given.every((ids) => ids.at(-1) === eos_id && ids.at(-2) !== eos_id));
  for (const template of ["none", "alpaca"]) {
    assert.deepEqual(await prompts("--template", template, "--data", data), given);
  }
});
