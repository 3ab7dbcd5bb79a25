/** The files of a tokenizer in a model folder that is written. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../../kernels/errors.ts";
import { weightShapes } from "../../../../model/families/config.ts";
import { presetConfig } from "../../../../model/families/presets.ts";
import type { FileToMake } from "../../../../model/formats/carried_files.ts";
import { writeHuggingFace } from "../../../../model/formats/write_huggingface.ts";
import { openModel } from "../../../../model/checkpoint/source.ts";
import { tokenizerFiles } from "../../../../model/text/tokenizer/tokenizer_files.ts";
import { fixturePath } from "../../../fixtures.ts";

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

/** Writes a model of zeros. */
async function writeModel(folder: string, files: FileToMake[] = []): Promise<void> {
  const tensors = [...weightShapes(config)].map(([name, shape]) => ({
    name,
    shape,
    dtype: "F32" as const,
    data: [new Uint8Array(4 * shape.reduce((a, b) => a * b, 1))],
  }));
  await writeHuggingFace(folder, config, tensors, { tokenizer: { files, others: "replaced" } });
}

/** The tokenizer's files in a model folder written with the tokenizer at `tokenizerPath`. */
async function copied(folder: string, tokenizerPath: string): Promise<string[]> {
  await writeModel(folder, await tokenizerFiles(tokenizerPath));
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
    // A file of another name: what is beside it need not belong to it, and what it lacks is made.
    const tiny = fixturePath("tiny_tokenizer.model");
    Deno.copyFileSync(tiny, join(from, "llama.model"));
    const made = ["tokenizer.json", "tokenizer.model", "tokenizer_config.json"];
    assert.deepEqual(await copy(join(from, "llama.model")), made);
    assert.deepEqual(
      Deno.readFileSync(join(root, "2", "tokenizer.model")),
      Deno.readFileSync(tiny),
    );
    for (const name of ["tokenizer.json", "tokenizer.model"]) Deno.removeSync(join(from, name));
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
    const found = async (...names: string[]) => {
      const folder = join(root, names.join("-and-") || "none");
      await writeModel(folder);
      for (const name of names) Deno.writeTextFileSync(join(folder, name), "{}");
      const { weights, tokenizerPath } = openModel(folder);
      weights?.close();
      return tokenizerPath === folder ? "its folder" : tokenizerPath;
    };
    assert.equal(await found("tokenizer.json"), "its folder");
    assert.equal(await found("tokenizer.model"), "its folder");
    assert.equal(await found("tokenizer_config.json"), undefined);
    assert.equal(await found(), undefined);
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
});
