/** What writeHuggingFace copies of a tokenizer. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { presetConfig, weightShapes } from "../../../model/config.ts";
import { writeHuggingFace } from "../../../model/files/write_huggingface.ts";
import { openModel } from "../../../model/source.ts";

const ALL = [
  "chat_template.jinja",
  "special_tokens_map.json",
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
];

const config = {
  ...presetConfig("tiny"),
  vocab_size: 8,
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  num_key_value_heads: 1,
  head_dim: 8,
};

/** The tokenizer's files in a model folder written with the tokenizer at `tokenizerPath`. */
async function copied(folder: string, tokenizerPath: string): Promise<string[]> {
  const tensors = [...weightShapes(config)].map(([name, shape]) => ({
    name,
    shape,
    dtype: "F32" as const,
    data: [new Uint8Array(4 * shape.reduce((a, b) => a * b, 1))],
  }));
  await writeHuggingFace(folder, config, tensors, { tokenizerPath });
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  return names.filter((name) => !["config.json", "model.safetensors"].includes(name));
}

Deno.test("a tokenizer is copied with all that belongs to it", async () => {
  const root = Deno.makeTempDirSync();
  try {
    const from = join(root, "from");
    Deno.mkdirSync(from);
    for (const name of [...ALL, "README.md"]) Deno.writeTextFileSync(join(from, name), name);
    let folders = 0;
    const copy = (path: string) => copied(join(root, `${folders++}`), path);
    assert.deepEqual(await copy(from), ALL);
    assert.equal(Deno.readTextFileSync(join(root, "0", "tokenizer.json")), "tokenizer.json");
    const settings = ALL.filter((name) => !/tokenizer\.(json|model)$/.test(name));
    assert.deepEqual(
      await copy(join(from, "tokenizer.json")),
      [...settings, "tokenizer.json"].sort(),
    );
    // A file of another name: what is beside it need not belong to it.
    Deno.renameSync(join(from, "tokenizer.model"), join(from, "llama.model"));
    assert.deepEqual(await copy(join(from, "llama.model")), ["tokenizer.model"]);
    assert.equal(Deno.readTextFileSync(join(root, "2", "tokenizer.model")), "tokenizer.model");
    Deno.removeSync(join(from, "tokenizer.json"));
    const refused = (path: string, message: RegExp) =>
      assert.rejects(
        copy(path),
        (error) => error instanceof UserError && message.test(error.message),
      );
    await refused(from, /holds no tokenizer\.model or tokenizer\.json/);
    await refused(join(root, "missing"), /cannot read .*missing: it does not exist/);
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
});

Deno.test("a model's own tokenizer is tokenizer.model or tokenizer.json in its folder", async () => {
  const root = Deno.makeTempDirSync();
  try {
    const tokenizer = join(root, "tokenizer.json");
    Deno.writeTextFileSync(tokenizer, "{}");
    const found = async (name: string, path: string) => {
      const folder = join(root, name);
      await copied(folder, path);
      const { weights, tokenizerPath } = openModel(folder);
      weights!.close();
      return tokenizerPath;
    };
    assert.equal(await found("a", tokenizer), join(root, "a"));
    Deno.renameSync(tokenizer, join(root, "tokenizer.model"));
    assert.equal(await found("b", join(root, "tokenizer.model")), join(root, "b"));
    Deno.removeSync(join(root, "b", "tokenizer.model"));
    const { weights, tokenizerPath } = openModel(join(root, "b"));
    weights!.close();
    assert.equal(tokenizerPath, undefined);
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
});
