/** Tokenizers against a model's vocabulary, and BOS as --add-bos has it. */
import assert from "node:assert/strict";
import { UserError } from "../../../../kernels/errors.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import {
  templateIds,
  tokenizerForModel,
  vocabularyCheck,
  withBos,
} from "../../../../model/text/tokenizer/vocabulary_check.ts";
import { fixturePath } from "../../../fixtures.ts";
import { fromSentencePiece, special, writeTokenizer } from "./tokenizer_files.ts";

const tiny = fixturePath("tiny_tokenizer.model");
const root = Deno.makeTempDirSync();
globalThis.addEventListener("unload", () => Deno.removeSync(root, { recursive: true }));
const NAMES = { tokenizer: "t", model: "m" };

/** 360 ids of its own, and "<pad>" and "<|end|>" at 360 and 361. */
async function longer(eos_token: string) {
  const json = fromSentencePiece(tiny);
  json.added_tokens.push(special("<pad>", 360), special("<|end|>", 361));
  const config = { bos_token: "<s>", eos_token, pad_token: "<pad>" };
  const folder = writeTokenizer(`${root}/${eos_token.replaceAll(/\W/g, "")}`, json, {
    "tokenizer_config.json": config,
  });
  return await loadTokenizer(folder);
}

function refused(run: () => unknown, message: RegExp): void {
  assert.throws(run, (error) => error instanceof UserError && message.test(error.message));
}

Deno.test("vocabulary: added tokens without a row are fine until a text uses one", async () => {
  const tokenizer = await longer("</s>");
  assert.deepEqual([tokenizer.vocab_size, tokenizer.base_vocab_size], [362, 360]);
  assert.equal(tokenizerForModel(tokenizer, 362, NAMES), tokenizer);
  const limited = tokenizerForModel(tokenizer, 360, NAMES);
  assert.deepEqual(limited.encode("a bird <pad>"), tokenizer.encode("a bird <pad>"));
  assert.deepEqual(limited.encodeText("a bird"), tokenizer.encodeText("a bird"));
  const message =
    /tokenizer "t" has id 360 for "<pad>", but model "m" has a vocab_size of 360: the token was added/;
  refused(() => limited.encodeSpecial("a<pad>"), message);
  refused(() => limited.encodeText("a<pad>"), message);
  refused(() => limited.encodeParts(["a", 360]), message);
});

Deno.test("vocabulary: an end token without a row, and another model's tokenizer, are refused", async () => {
  const tokenizer = await longer("<|end|>");
  assert.equal(tokenizer.eos_id, 361);
  refused(() => vocabularyCheck(tokenizer, 361, NAMES), /has id 361 for "<\|end\|>"/);
  refused(
    () => vocabularyCheck(tokenizer, 359, NAMES),
    /"t" has 360 ids but model "m" has a vocab_size of 359: it is another model's/,
  );
});

Deno.test("add_bos: always, never, and what stands written in a text", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const a = tokenizer.encode("a");
  const always = withBos({ ...tokenizer, prefix_ids: [] }, "always", "t");
  assert.deepEqual([always.prefix_ids, always.add_bos], [[1], "always"]);
  assert.deepEqual(always.encodeText("a"), [1, ...a]);
  assert.deepEqual(always.encodeText("<s>a"), [1, ...a]);
  const never = withBos(tokenizer, "never", "t");
  assert.deepEqual([never.prefix_ids, never.encodeText("a")], [[], a]);
  assert.deepEqual(never.encodeText("<s>a"), [1, ...a]);
  assert.equal(withBos(tokenizer, "auto", "t"), tokenizer);
  assert.deepEqual(withBos(tokenizer, "always", "t").prefix_ids, [1]);
  refused(
    () => withBos({ ...tokenizer, bos_id: undefined }, "always", "t"),
    /--add-bos always: tokenizer "t" names no BOS token; expected auto or never/,
  );
  // A rendered template is left as it is, unless something else is asked for.
  assert.deepEqual(templateIds(tokenizer, a), a);
  assert.deepEqual(templateIds(always, a), [1, ...a]);
  assert.deepEqual(templateIds(always, [1, ...a]), [1, ...a]);
  assert.deepEqual(templateIds(never, [1, ...a]), a);
});
