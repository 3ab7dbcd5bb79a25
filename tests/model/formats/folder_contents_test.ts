/** What is said of folders and files that are no model. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { readAdapter } from "../../../model/adapter/adapter_folder.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { fixturePath } from "../../fixtures.ts";

let root = "";
Deno.test.beforeAll(() => {
  root = Deno.makeTempDirSync();
});
Deno.test.afterAll(() => Deno.removeSync(root, { recursive: true }));

let count = 0;

/** A folder with these files: empty ones, or with a text. */
function folderWith(files: Record<string, string>): string {
  const folder = join(root, `folder${count++}`);
  Deno.mkdirSync(folder);
  for (const [name, text] of Object.entries(files)) {
    Deno.mkdirSync(dirname(join(folder, name)), { recursive: true });
    Deno.writeTextFileSync(join(folder, name), text);
  }
  return folder;
}

function refused(model: string, message: RegExp): void {
  assert.throws(() => openModel(model), { name: "UserError", message });
}

const CONFIG = Deno.readTextFileSync(fixturePath("family/config.json"));
const of = (...names: string[]) => Object.fromEntries(names.map((name) => [name, "x"]));

Deno.test("a folder that is no model is told by what it holds", () => {
  const cases: [files: Record<string, string>, message: RegExp][] = [
    [{}, /: is empty, expected a model folder with config\.json$/],
    [
      { "adapter_config.json": '{"base_model_name_or_path": "meta-llama/Llama-2-7b-hf"}' },
      /: holds an adapter, not a model; expected it as --adapter, and its base model \(made for "meta-llama\/Llama-2-7b-hf"\) as --model$/,
    ],
    [{ "adapter_config.json": "{}" }, /and its base model as --model$/],
    [
      of("tokenizer.json", "tokenizer_config.json"),
      /: holds a tokenizer, but no model: config\.json and/,
    ],
    [
      of("a.Q4_K_M.gguf"),
      /: holds a\.Q4_K_M\.gguf, a model in the GGUF format, which is read where/,
    ],
    [of("consolidated.00.pth"), /: holds weights in Meta's layout, but not the params\.json that/],
    [
      of("consolidated.safetensors", "tekken.json"),
      /: holds consolidated\.safetensors, weights in Mistral's/,
    ],
    [of("model.safetensors"), /: holds weights, but not the config\.json that belongs to them$/],
    [
      of("blobs/a", "snapshots/0123abc/config.json"),
      /is the hub's cache of a model, expected .*snapshots\/0123abc$/,
    ],
    [
      of("model/config.json", "state/x"),
      /holds no model itself, expected the one in it: .*\/model$/,
    ],
    [
      of("adapter/adapter_config.json"),
      /the output of a training run; expected --model as in that run, and --adapter .*\/adapter$/,
    ],
    [of("notes.txt"), /^cannot read .*config\.json: it does not exist$/],
  ];
  for (const [files, message] of cases) refused(folderWith(files), message);
});

Deno.test("weights that are not read are named beside a config.json", () => {
  const cases: [name: string, message: RegExp][] = [
    [
      "model.fp16.safetensors",
      /: holds model\.fp16\.safetensors, weights of a variant, which are read under their/,
    ],
    ["model.fp16-00001-of-00002.safetensors", /weights of a variant/],
    ["pytorch_model.fp16.bin", /weights of a variant/],
    ["model-00001-of-00002.safetensors", /one of several files of weights, but not the index/],
    [
      "consolidated.safetensors",
      /weights in Mistral's own layout, which is not read; expected the model-\*/,
    ],
    ["tf_model.h5", /weights of TensorFlow, which are not read; expected model\.safetensors$/],
    ["flax_model.msgpack", /weights of Flax/],
    ["llama.gguf", /GGUF format/],
    [
      "consolidated.00.pth",
      /weights in Meta's layout, which is read from a folder with params\.json and without/,
    ],
    [
      "README.md",
      /: expected one of model\.safetensors, model\.safetensors\.index\.json, pytorch_model\.bin, pyt/,
    ],
  ];
  for (const [name, message] of cases) {
    refused(folderWith({ "config.json": CONFIG, [name]: "x" }), message);
  }
  // Mistral's own folder holds params.json, as Meta's do.
  refused(
    folderWith(of("params.json", "consolidated.safetensors")),
    /: holds consolidated\.safetensors, weights in Mistral's own layout/,
  );
});

Deno.test("a folder that is no adapter is told by what it holds", () => {
  const no = (path: string, message: RegExp) =>
    assert.throws(() => readAdapter(path), { name: "UserError", message });
  const cases: [files: Record<string, string>, message: RegExp][] = [
    [{}, /: is empty, expected an adapter's folder with adapter_config\.json$/],
    [of("adapter/adapter_config.json", "state/x"), /expected one in it: .*\/adapter$/],
    [
      of("checkpoint-9/adapter_config.json", "checkpoint-10/adapter_config.json", "config.json"),
      /expected one in it: .*\/checkpoint-10$/,
    ],
    [
      of("config.json", "model.safetensors"),
      /: holds a model, not an adapter; expected it as --model$/,
    ],
    [
      of("adapter_model.bin"),
      /: holds tensors of an adapter, but not the adapter_config\.json that/,
    ],
    [
      of("blobs/a", "snapshots/12/x"),
      /is the hub's cache of an adapter, expected .*snapshots\/12$/,
    ],
    [of("notes.txt"), /^cannot read .*adapter_config\.json: it does not exist$/],
  ];
  for (const [files, message] of cases) no(folderWith(files), message);
  const folder = folderWith(of("adapter_model.safetensors"));
  no(
    join(folder, "adapter_model.safetensors"),
    /is a file, expected the folder that holds the adapter's/,
  );
});

Deno.test("a file in place of a folder, and a name of the hub's", () => {
  const folder = folderWith(of("model.safetensors", "a.gguf"));
  refused(
    join(folder, "model.safetensors"),
    /is a file; expected the folder that holds the model's files: .*folder\d+$/,
  );
  refused(join(folder, "a.gguf"), /a\.gguf: is (?:no GGUF file|empty)/);
  refused(
    "nobody/no-such-model",
    /does not exist; .*"hf download nobody\/no-such-model --local-dir DIR" would/,
  );
});
