import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../../kernels/errors.ts";
import { presetConfig } from "../../../../model/families/presets.ts";
import { stopTokens } from "../../../../model/text/tokenizer/stop_tokens.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import { fixturePath } from "../../../fixtures.ts";

const tokenizer = await loadTokenizer(fixturePath("tiny_tokenizer.model"));
const config = { ...presetConfig("tiny"), eos_token_id: 7, eos_token_ids: [7, 8] };

Deno.test("stop tokens: the tokenizer's, config.json's and generation_config.json's, each once", () => {
  assert.deepEqual(stopTokens(config, tokenizer), [2, 7, 8]);
  const folder = Deno.makeTempDirSync();
  const file = join(folder, "generation_config.json");
  try {
    assert.deepEqual(stopTokens(config, tokenizer, folder), [2, 7, 8]);
    const stops = (json: unknown) => {
      Deno.writeTextFileSync(file, JSON.stringify(json));
      return stopTokens(config, tokenizer, folder);
    };
    assert.deepEqual(stops({ eos_token_id: [9, 8, 10] }), [2, 7, 8, 9, 10]);
    assert.deepEqual(stops({ eos_token_id: 9 }), [2, 7, 8, 9]);
    const last = config.vocab_size - 1;
    assert.deepEqual(stops({ eos_token_id: [last + 1, last, 2 ** 31] }), [2, 7, 8, last]);
    for (const none of [null, -1]) assert.deepEqual(stops({ eos_token_id: none }), [2, 7, 8]);
    // The first conversions of LLaMA called BOS, 1, their end; other models may.
    Deno.writeTextFileSync(join(folder, "config.json"), '{"architectures":["LLaMAForCausalLM"]}');
    assert.deepEqual(stops({ eos_token_id: 1 }), [2, 7, 8]);
    Deno.writeTextFileSync(join(folder, "config.json"), '{"architectures":["LlamaForCausalLM"]}');
    assert.deepEqual(stops({ eos_token_id: 1 }), [2, 7, 8, 1]);
    const refused = (json: unknown, message: RegExp) =>
      assert.throws(
        () => stops(json),
        (error) =>
          error instanceof UserError && error.message.startsWith(file) &&
          message.test(error.message),
      );
    refused({ eos_token_id: "</s>" }, /eos_token_id is "<\/s>", expected a token id or a list/);
    refused({ eos_token_id: [1, -1] }, /eos_token_id is \[1,-1\]/);
    refused([], /is \[\], expected an object/);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
