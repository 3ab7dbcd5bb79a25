/** Each tokenizer.json, and file beside it, that is refused. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../../kernels/errors.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";
import type { Tokenizer } from "../../../../model/text/tokenizer/tokenizer.ts";
import { fromSentencePiece, special, type TokenizerJson } from "./tokenizer_files.ts";
import { SETTINGS, tiny, write } from "./tokenizer_folders.ts";

/** A change of the good file, and what the refusal says. */
type Broken = [change: (json: TokenizerJson) => unknown, message: RegExp];

const BROKEN: Broken[] = [
  [() => "{", /tokenizer\.json: is not valid JSON/],
  [() => [], /tokenizer\.json: is \[\], expected an object/],
  [() => ({}), /has no model/],
  [
    (json) => ({ ...json, model: { ...json.model, type: "Markov" } }),
    /type "Markov", expected BPE, Unigram, WordPiece or WordLevel/,
  ],
  [(json) => ({ ...json, model: { ...json.model, type: "Unigram" } }), /has no model\.vocab list/],
  [(json) => ({ ...json, model: { ...json.model, dropout: 0.1 } }), /has a model with dropout/],
  [(json) => ({ ...json, model: { ...json.model, vocab: [] } }), /has no model\.vocab object/],
  [(json) => ({ ...json, model: { ...json.model, vocab: {} } }), /has an empty model\.vocab/],
  [(json) => ({ ...json, model: { ...json.model, vocab: { a: 1e9 } } }), /id 1000000000 for "a"/],
  [(json) => ({ ...json, model: { ...json.model, vocab: { a: "1" } } }), /id "1" for "a"/],
  [(json) => ({ ...json, model: { ...json.model, merges: 1 } }), /has no model\.merges list/],
  [
    (json) => ({ ...json, model: { ...json.model, merges: ["a b", "c"] } }),
    /"c" as model\.merges\[1\]/,
  ],
  [(json) => ({ ...json, model: { ...json.model, merges: [["a", 1]] } }), /as model\.merges\[0\]/],
  [(json) => ({ ...json, model: { ...json.model, merges: ["a b", ["a", "b"]] } }), /merges\[1\]/],
  [
    (json) => ({ ...json, model: { ...json.model, merges: ["? !"] } }),
    /the merge \["\?","!"\], of which model\.vocab lacks/,
  ],
  [(json) => ({ ...json, added_tokens: {} }), /an added_tokens that is no list/],
  [(json) => ({ ...json, added_tokens: [{ id: 3 }] }), /\{"id":3\} among added_tokens/],
  [
    (json) => ({ ...json, normalizer: { type: "Precompiled", precompiled_charsmap: "AAAA" } }),
    /a normalizer Precompiled whose map of characters is cut or none/,
  ],
  [
    (json) => ({ ...json, normalizer: { type: "Replace", content: "" } }),
    /normalizer "Replace" with pattern missing/,
  ],
  [(json) => ({ ...json, normalizer: { type: "Sequence" } }), /sequence without "normalizers"/],
  [(json) => ({ ...json, pre_tokenizer: "Digits" }), /a pre_tokenizer of no type/],
  [
    (json) => ({ ...json, pre_tokenizer: { type: "UnicodeScripts" } }),
    /pre_tokenizer of type "UnicodeScripts", which is not supported/,
  ],
  [
    (json) => ({
      ...json,
      pre_tokenizer: { type: "Split", pattern: { String: "a" }, behavior: "Merged" },
    }),
    /pre_tokenizer "Split" with behavior "Merged", expected Removed, Isolated/,
  ],
  [
    (json) => ({
      ...json,
      pre_tokenizer: {
        type: "Metaspace",
        replacement: "▁",
        prepend_scheme: "first",
        add_prefix_space: false,
      },
    }),
    /prepend_scheme "first" and add_prefix_space false, which contradict each other/,
  ],
  [
    (json) => ({ ...json, post_processor: { type: "TemplateProcessing", single: [] } }),
    /TemplateProcessing with \[\], which is not supported/,
  ],
  [
    (json) => ({
      ...json,
      pre_tokenizer: { type: "Split", pattern: { Regex: "(" }, behavior: "Isolated" },
    }),
    /has the pattern "\(", which is not supported/,
  ],
  [(json) => ({ ...json, decoder: { type: "CTC" } }), /a decoder of type "CTC"/],
];

Deno.test("tokenizer.json: broken files are refused in one sentence", async () => {
  for (const [change, message] of BROKEN) {
    const folder = write(change(fromSentencePiece(tiny)), SETTINGS);
    await assert.rejects(loadTokenizer(folder), (error) => {
      assert.ok(error instanceof UserError, `${message}: ${error}`);
      assert.match(error.message, message);
      assert.ok(error.message.includes(join(folder, "tokenizer.json")));
      assert.ok(!error.message.includes("\n"));
      return true;
    });
  }
});

Deno.test("tokenizer.json: settings beside it that are wrong are refused by file and field", async () => {
  const json = fromSentencePiece(tiny);
  const cases: [Record<string, unknown>, RegExp][] = [
    [{}, /does not say which token is EOS; expected eos_token in tokenizer_config\.json/],
    [{ "config.json": { bos_token_id: 1, eos_token_id: 999 } }, /has no token 999, which config/],
    [{ "tokenizer_config.json": [] }, /tokenizer_config\.json: is \[\], expected an object/],
    [{ "tokenizer_config.json": { eos_token: 3 } }, /tokenizer_config\.json: eos_token is 3/],
    [
      { "tokenizer_config.json": { added_tokens_decoder: { x: { content: "y" } } } },
      /added_tokens_decoder has the id "x", expected a whole number/,
    ],
    [{ "tokenizer_config.json": { tokenizer_class: "T5Tokenizer" } }, /class "T5Tokenizer"/],
    [
      { "tokenizer_config.json": { auto_map: { AutoTokenizer: ["a.B", null] } } },
      /opened by code of its own \(auto_map/,
    ],
    [{ "special_tokens_map.json": { bos_token: 3 } }, /special_tokens_map\.json: bos_token is 3/],
  ];
  for (const [files, message] of cases) {
    await assert.rejects(
      loadTokenizer(write(json, files)),
      (error) => error instanceof UserError && message.test(error.message),
      `${message}`,
    );
  }
});

Deno.test("tokenizer.json: added tokens that its normalizer makes alike, or nothing, are refused by name", async () => {
  const load = async (...contents: string[]) => {
    const json = fromSentencePiece(tiny);
    contents.forEach((content, i) => {
      json.added_tokens.push({ ...special(content, 360 + i), normalized: true });
    });
    const normalizers = [{ type: "Lowercase" }, {
      type: "Strip",
      strip_left: true,
      strip_right: true,
    }];
    return await loadTokenizer(
      write({ ...json, normalizer: { type: "Sequence", normalizers } }, SETTINGS),
    );
  };
  const refused = (tokenizer: Tokenizer, message: RegExp) =>
    assert.throws(
      () => tokenizer.encodeSpecial("a foo"),
      (error) => error instanceof UserError && message.test(error.message),
    );
  refused(await load("FOO", "Foo"), /the added tokens "FOO" and "Foo", which its normalizer makes/);
  refused(await load("\n\n"), /the added token "\\n\\n", of which its normalizer leaves nothing/);
  const tokenizer = await load("FOO");
  assert.ok(tokenizer.encodeSpecial("a foo").includes(360));
});

Deno.test("tokenizer.json: Code Llama's gap token is refused in texts, and letters elsewhere", async () => {
  const load = (tokenizer_class: string) =>
    loadTokenizer(
      write(fromSentencePiece(tiny), {
        "tokenizer_config.json": {
          ...SETTINGS["tokenizer_config.json"],
          fill_token: "<FILL_ME>",
          tokenizer_class,
        },
      }),
    );
  const code = await load("CodeLlamaTokenizer"), plain = await load("PreTrainedTokenizerFast");
  for (const text of ["a<FILL_ME>b", "a <FILL_ME>", "<FILL_ME>"]) {
    for (const encode of [code.encodeSpecial, code.encodeText]) {
      assert.throws(() => encode(text), {
        name: "UserError",
        message: /^tokenizer ".*" reads <FILL_ME> as a gap .* expected a text without it$/,
      });
    }
    // No other class has a use for it, and what a template quotes is letters.
    assert.ok(plain.encodeText(text).includes(plain.special_tokens.get("<FILL_ME>") ?? -1));
    const ids = code.encodeSpecial(text, () => true);
    assert.deepEqual(ids, code.encode(text));
    assert.equal(code.decode(ids), text);
  }
});
