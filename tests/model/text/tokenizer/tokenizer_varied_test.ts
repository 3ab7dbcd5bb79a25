/** Llama 2's real tokenizer against an independent implementation, llama-tokenizer-js. */
import assert from "node:assert/strict";
import llama from "llama-tokenizer-js";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { hasShared, sharedPath, sharedReason } from "../../../shared.ts";
import { fromSentencePiece, writeTokenizer } from "./tokenizer_files.ts";
import { variedTexts } from "./tokenizer_texts.ts";

const texts = variedTexts(1000);

Deno.test("tokenizer: the varied texts are varied", () => {
  assert.equal(new Set(texts).size, 1000);
  const kinds = [
    /^$/,
    /^ /,
    / $/,
    / {8}/,
    /\n/,
    /\t/,
    /\p{Regional_Indicator}/u,
    /\u200d/,
    /\p{Script=Han}/u,
    /\p{Script=Arabic}/u,
    /\p{M}/u,
    /\d/,
    /\0/,
    /\p{Cc}/u,
    /<s>/,
    /<\/s>/,
    /<unk>/,
    /\ufffd/,
    /\ufeff/,
    /\p{Co}/u,
  ];
  for (const kind of kinds) assert.ok(texts.some((text) => kind.test(text)), `${kind}`);
});

Deno.test({
  name: `tokenizer: 1,000 varied texts agree with llama-tokenizer-js${sharedReason}`,
  ignore: !hasShared,
  async fn() {
    const tokenizer = await loadTokenizer(sharedPath("llama2/tokenizer.model"));
    for (const text of texts) {
      const ids = tokenizer.encode(text);
      assert.equal(ids.join(" "), llama.encode(text, false).join(" "), JSON.stringify(text));
      assert.equal(tokenizer.decode(ids), llama.decode(ids, false), JSON.stringify(text));
      assert.equal(tokenizer.decode(ids), text);
    }
  },
});

Deno.test({
  name: `tokenizer: the same model as tokenizer.json gives the same${sharedReason}`,
  ignore: !hasShared,
  async fn() {
    const folder = await Deno.makeTempDir();
    try {
      const file = sharedPath("llama2/tokenizer.model");
      const settings = { "tokenizer_config.json": { bos_token: "<s>", eos_token: "</s>" } };
      writeTokenizer(folder, fromSentencePiece(file), settings);
      const [model, json] = [await loadTokenizer(file), await loadTokenizer(folder)];
      for (const text of texts) {
        const ids = model.encode(text);
        assert.equal(json.encode(text).join(" "), ids.join(" "), JSON.stringify(text));
        assert.equal(json.decode(ids), model.decode(ids));
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
