/** What a written model folder keeps of the one that it was made from. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { parseConfig, weightShapes, withLayers } from "../../../model/families/config.ts";
import { generationConfig } from "../../../model/formats/generation_config.ts";
import { openHuggingFace } from "../../../model/formats/huggingface.ts";
import type { FileDtype } from "../../../model/formats/weights.ts";
import { type FolderOptions, writeHuggingFace } from "../../../model/formats/write_huggingface.ts";
import { saveModel } from "../../../model/checkpoint/save.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { fixturePath } from "../../fixtures.ts";

let root = "";
Deno.test.beforeAll(() => {
  root = Deno.makeTempDirSync();
});
Deno.test.afterAll(() => Deno.removeSync(root, { recursive: true }));

/** A configuration as a file spells it, with keys that nobody here knows. */
const CONFIG_TEXT = `{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "_name_or_path": "somewhere",
  "vocab_size": 8, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
  "num_attention_heads": 1, "max_position_embeddings": 64, "rms_norm_eps": 1e-05,
  "attention_dropout": 0.0, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
  "layer_types": ["full_attention", "full_attention"], "initializer_range": 1.0, "dtype": "float32",
  "unknown": {"big": 12345678901234567890, "list": [1.50]}, "eos_token_id": 2, "bos_token_id": 1
}`;

/** A folder with files by their paths. */
function folderWith(label: string, files: Record<string, string>): string {
  const folder = join(root, label);
  for (const [name, text] of Object.entries(files)) {
    Deno.mkdirSync(dirname(join(folder, name)), { recursive: true });
    Deno.writeTextFileSync(join(folder, name), text);
  }
  return folder;
}

/** Writes a model of zeros that came from `base`; returns its folder and what was carried over. */
async function written(
  label: string,
  base: string,
  options: FolderOptions & { dtype?: FileDtype; layers?: number } = {},
) {
  const { dtype = "F32", layers, ...rest } = options;
  const path = join(base, "config.json");
  const whole = parseConfig(JSON.parse(Deno.readTextFileSync(path)), path);
  const config = layers === undefined ? whole : withLayers(whole, layers, base);
  const tensors = [...weightShapes(config)].map(([name, shape]) => {
    const bytes = (dtype === "F32" ? 4 : 2) * shape.reduce((a, b) => a * b, 1);
    return { name, shape, dtype, data: [new Uint8Array(bytes)] };
  });
  const folder = join(root, label);
  const carried = await writeHuggingFace(folder, config, tensors, { base, ...rest });
  openHuggingFace(folder).close();
  return { folder, carried, read: (name: string) => Deno.readTextFileSync(join(folder, name)) };
}

/** Every file below a folder. */
function filesIn(folder: string, prefix = ""): string[] {
  return [...Deno.readDirSync(join(folder, prefix))].flatMap(({ name, isDirectory }) =>
    isDirectory ? filesIn(folder, join(prefix, name)) : [join(prefix, name)]
  ).sort();
}

const OTHERS = {
  "LICENSE": "licence",
  "README.md": "---\nlicense: x\n---",
  "added_tokens.json": "{}",
  "additional_chat_templates/rag.jinja": "rag",
  "chat_template.jinja": "{{ 1 }}",
  "configuration_custom.py": "pass",
  "generation_config.json": '{"temperature": 0.6, "eos_token_id": 2}',
  "images/deep/a.png": "png",
  "preprocessor_config.json": "{}",
  "tokenizer.json": "{}",
  "tokenizer_config.json": '{"model_max_length": 1000000000000000019884624838656}',
};

Deno.test("every file that holds no weights is carried over, byte for byte", async () => {
  const base = folderWith("models--x/snapshots/1", {
    ...OTHERS,
    "config.json": CONFIG_TEXT,
    ".git/config": "hidden",
    ".gitattributes": "*.bin lfs",
    "adapter_config.json": "{}",
    "model-00001-of-00002.safetensors": "weights",
    "model.safetensors.index.json": "{}",
    "pytorch_model.bin": "weights",
    "training_args.bin": "pickle",
    "optimizer.pt": "state",
    "original/consolidated.00.pth": "weights",
    "original/params.json": "{}",
  });
  // As in the hub's cache, where files are links to others, which are read-only.
  const blob = join(root, "models--x/blobs/2");
  Deno.mkdirSync(dirname(blob));
  Deno.writeTextFileSync(blob, "linked");
  Deno.chmodSync(blob, 0o444);
  Deno.symlinkSync(blob, join(base, "USE_POLICY.md"));
  Deno.symlinkSync(join(root, "gone"), join(base, "dangling.txt"));
  // A model can link to what is none of it, which would be given away with what is made of the model.
  const secret = folderWith("secret", { "key.txt": "secret" });
  Deno.symlinkSync(join(secret, "key.txt"), join(base, "NOTICE"));
  Deno.symlinkSync(secret, join(base, "assets"));
  Deno.symlinkSync(join(secret, "key.txt"), join(base, "images/b.png"));
  Deno.mkdirSync(join(base, "docs"));
  Deno.symlinkSync("../LICENSE", join(base, "docs/LICENSE"));
  // Python refuses JSON with a byte order mark.
  Deno.writeTextFileSync(join(base, "added_tokens.json"), `\ufeff${OTHERS["added_tokens.json"]}`);
  const { folder, carried, read } = await written("carried", base);
  const [first] = Deno.readFileSync(join(folder, "added_tokens.json"));
  assert.equal(first, "{".charCodeAt(0));
  const { "images/deep/a.png": _, ...kept } = OTHERS;
  const linked = ["USE_POLICY.md", "docs/LICENSE"];
  const expected = [...Object.keys(kept), ...linked, "config.json", "model.safetensors"];
  assert.deepEqual(filesIn(folder), expected.sort());
  for (const [name, text] of Object.entries(kept)) assert.equal(read(name), text);
  assert.equal(read("USE_POLICY.md"), "linked");
  const copy = Deno.lstatSync(join(folder, "USE_POLICY.md"));
  assert.ok(copy.isFile && ((copy.mode ?? 0) & 0o200) !== 0);
  assert.equal(carried.files.length, Object.keys(kept).length + linked.length);
  assert.deepEqual(carried.left, [
    "2 files of weights",
    "NOTICE (a link out of the folder)",
    "adapter_config.json",
    "assets (a link out of the folder)",
    "dangling.txt (a link to nothing)",
    "images/",
    "original/",
  ]);
});

Deno.test("keys of config.json stay as they are spelled, but for what changed", async () => {
  const base = folderWith("keys", { "config.json": CONFIG_TEXT });
  const { read } = await written("same", base);
  const text = read("config.json");
  const plain = (json: string) => json.replaceAll(/\s+/g, "");
  assert.equal(plain(text), plain(CONFIG_TEXT));
  const cut = JSON.parse(
    (await written("cut", base, { dtype: "BF16", layers: 1 })).read("config.json"),
  );
  const { unknown: _, ...before } = JSON.parse(CONFIG_TEXT);
  const { unknown: __, ...after } = cut;
  assert.deepEqual(after, {
    ...before,
    num_hidden_layers: 1,
    layer_types: ["full_attention"],
    dtype: "bfloat16",
  });
});

Deno.test("the dtype keeps the name that the file has for it", async () => {
  const json = JSON.parse(CONFIG_TEXT);
  delete json.dtype;
  for (const name of ["torch_dtype", "dtype", undefined]) {
    const text = JSON.stringify(name === undefined ? json : { ...json, [name]: "float32" });
    const base = folderWith(`dtype-${name}`, { "config.json": text });
    const { read } = await written(`dtype-${name}-f16`, base, { dtype: "F16" });
    const { dtype, torch_dtype } = JSON.parse(read("config.json"));
    const expected = name === "dtype" ? ["float16", undefined] : [undefined, "float16"];
    assert.deepEqual([dtype, torch_dtype], expected);
  }
});

Deno.test("a config.json of the first conversions is written in the names of today", async () => {
  const { dtype: _, max_position_embeddings: max_sequence_length, ...json } = JSON.parse(
    CONFIG_TEXT,
  );
  const old = {
    ...json,
    architectures: ["LLaMAForCausalLM"],
    max_sequence_length,
    bos_token_id: 0,
    eos_token_id: 1,
    pad_token_id: -1,
  };
  const generation = { bos_token_id: 0, eos_token_id: 1, pad_token_id: 0, temperature: 0.5 };
  const base = folderWith("decapoda", {
    "generation_config.json": JSON.stringify(generation),
    "config.json": "\ufeff" + JSON.stringify(old),
  });
  Deno.writeTextFileSync(join(base, "config.json"), JSON.stringify(old));
  const { read } = await written("modern", base, { endTokens: [2] });
  const made = JSON.parse(read("generation_config.json"));
  assert.deepEqual(made, { ...generation, bos_token_id: 1, eos_token_id: 2 });
  const after = JSON.parse(read("config.json"));
  assert.deepEqual(after.architectures, ["LlamaForCausalLM"]);
  assert.equal(after.max_position_embeddings, 64);
  assert.equal(after.max_sequence_length, undefined);
  assert.deepEqual([after.bos_token_id, after.eos_token_id, after.pad_token_id], [1, 2, null]);
});

Deno.test("another tokenizer replaces every file of the base's own", async () => {
  const base = folderWith("two", { ...OTHERS, "config.json": CONFIG_TEXT, "vocab.json": "{}" });
  const other = folderWith("other", {
    "tokenizer.json": "other",
    "special_tokens_map.json": "map",
    "additional_chat_templates/tool.jinja": "tool",
    "README.md": "of the other",
  });
  const files = filesIn(other).filter((name) => name !== "README.md")
    .map((name) => ({ name, content: { copyOf: join(other, name) } }));
  const { folder, read } = await written("replaced", base, {
    tokenizer: { files, others: "replaced" },
  });
  const kept = Object.keys(OTHERS).filter((name) => !/token|chat_template/.test(name));
  const expected = [
    "additional_chat_templates/tool.jinja",
    "special_tokens_map.json",
    "tokenizer.json",
  ];
  assert.deepEqual(
    filesIn(folder),
    [...kept, ...expected, "config.json", "model.safetensors"].sort(),
  );
  assert.equal(read("tokenizer.json"), "other");
  assert.equal(read("README.md"), OTHERS["README.md"]);
});

Deno.test("generation_config.json says the end tokens where transformers would stop elsewhere", () => {
  const config = {
    eos_token_id: 2,
    bos_token_id: 1,
    pad_token_id: null,
    temperature: 0.6,
    hidden_size: 8,
  };
  const file = { eos_token_id: [2, 5], top_p: 0.9, _from_model_config: true };
  const made = (generation: Record<string, unknown> | undefined, ends: number[]) =>
    generationConfig({ config, generation }, ends);
  // The same in any order, from either file.
  assert.equal(made(undefined, [2]), undefined);
  assert.equal(made(file, [5, 2]), undefined);
  // The file hides what config.json says.
  assert.deepEqual(made(file, [2]), { eos_token_id: 2, top_p: 0.9 });
  assert.deepEqual(made({ top_p: 0.9 }, [2]), { eos_token_id: 2, top_p: 0.9 });
  assert.deepEqual(made(undefined, [2, 7]), {
    bos_token_id: 1,
    temperature: 0.6,
    eos_token_id: [2, 7],
  });
  assert.deepEqual(made({ eos_token_id: 9, top_p: 0.9 }, []), { eos_token_id: null, top_p: 0.9 });
  const none = generationConfig({ config: { eos_token_id: null }, generation: undefined }, [2]);
  assert.deepEqual(none, { eos_token_id: 2 });
});

Deno.test("a model in Meta's layout brings its notes and tokenizer, not its params.json", async () => {
  const base = join(root, "meta");
  Deno.mkdirSync(base);
  for (const name of ["params.json", "consolidated.00.pth"]) {
    Deno.copyFileSync(fixturePath(`meta_bf16/${name}`), join(base, name));
  }
  Deno.copyFileSync(fixturePath("tiny_tokenizer.model"), join(base, "tokenizer.model"));
  for (const name of ["LICENSE", "checklist.chk"]) Deno.writeTextFileSync(join(base, name), name);
  const source = openModel(base);
  const tensors = [...weightShapes(source.config)].map(([name, shape]) => ({
    name,
    shape,
    dtype: "BF16" as const,
    data: [new Uint8Array(2 * shape.reduce((a, b) => a * b, 1))],
  }));
  const folder = join(root, "from-meta");
  const { config, tokenizerPath } = source;
  await saveModel(folder, { source, config, tensors, tokenizerPath });
  source.weights?.close();
  const files = filesIn(folder);
  for (const name of ["LICENSE", "config.json", "model.safetensors", "tokenizer.model"]) {
    assert.ok(files.includes(name), name);
  }
  assert.ok(!files.includes("params.json") && !files.includes("checklist.chk"));
  assert.equal(
    JSON.parse(Deno.readTextFileSync(join(folder, "config.json"))).torch_dtype,
    "bfloat16",
  );
});

/** Writes zeros as the model of a folder, by all that merge, convert and train do; its files. */
async function saved(label: string, base: string): Promise<(name: string) => string> {
  const path = join(base, "config.json");
  const config = parseConfig(JSON.parse(Deno.readTextFileSync(path)), path);
  const tensors = [...weightShapes(config)].map(([name, shape]) => ({
    name,
    shape,
    dtype: "F32" as const,
    data: [new Uint8Array(4 * shape.reduce((a, b) => a * b, 1))],
  }));
  const folder = join(root, label);
  const source = { name: base, config, folder: base };
  await saveModel(folder, { source, config, tensors, tokenizerPath: base });
  return (name) => Deno.readTextFileSync(join(folder, name));
}

Deno.test("the tokenizer's end token that the model's files don't name gets into generation_config.json", async () => {
  const base = folderWith("ends", {
    "config.json": CONFIG_TEXT.replace('"eos_token_id": 2', '"eos_token_id": 7'),
    "tokenizer_config.json": '{"tokenizer_class": "LlamaTokenizer", "add_bos_token": true}',
  });
  Deno.copyFileSync(fixturePath("tiny_tokenizer.model"), join(base, "tokenizer.model"));
  const read = await saved("ended", base);
  assert.deepEqual(JSON.parse(read("generation_config.json")), {
    bos_token_id: 1,
    eos_token_id: [2, 7],
  });
  assert.equal(JSON.parse(read("config.json")).eos_token_id, 7);
  assert.equal(JSON.parse(read("tokenizer.json")).model.type, "BPE");
  assert.equal(JSON.parse(read("tokenizer_config.json")).eos_token, "</s>");
});

Deno.test("a tokenizer that can't be read here is copied as it is, and said to be", async () => {
  const base = folderWith("exotic", {
    "config.json": CONFIG_TEXT,
    "tokenizer.json": '{"model": {"type": "Unheard"}}',
  });
  const said: unknown[] = [], { error } = console;
  console.error = (line: unknown) => said.push(line);
  try {
    const read = await saved("as-it-is", base);
    assert.equal(read("tokenizer.json"), '{"model": {"type": "Unheard"}}');
  } finally {
    console.error = error;
  }
  assert.match(String(said[0]), /^The tokenizer is copied as it is, since it can't be read here: /);
  assert.equal(said[1], "Copied from the model's folder: 1 other file.");
});

/** What transformers made of a written folder: counts of what was equal and of all, or a word. */
type Counts = Record<string, string> & { different?: unknown };

Deno.test("transformers found the same in every folder that was written, says tests/fixtures/check_written.py", () => {
  const report: { texts: number; bases: Record<string, Record<string, Counts | string>> } = JSON
    .parse(Deno.readTextFileSync(fixturePath("written_check.json")));
  const bases = [
    "only_model",
    "tokenizer_json",
    "added_tokens",
    "tied_bf16",
    "mistral_bin",
    "first_conversion",
  ];
  assert.deepEqual(Object.keys(report.bases), bases);
  for (const [base, { what: _, ...ways }] of Object.entries(report.bases)) {
    assert.deepEqual(Object.keys(ways), [
      "convert f32",
      "convert f16",
      "convert bf16",
      "merge f32",
      "train",
    ]);
    for (const [way, counts] of Object.entries(ways)) {
      assert.ok(typeof counts !== "string");
      for (const [name, value] of Object.entries(counts)) {
        const [, equal, all] = /^(\d+) of (\d+)$/.exec(String(value)) ?? [];
        const good = all === undefined ? ["True", "none"].includes(String(value)) : equal === all;
        assert.ok(good, `${base}, ${way}: ${name} ${JSON.stringify(value).slice(0, 300)}`);
      }
      for (const name of ["ids", "greedy tokens"]) {
        assert.equal(counts[name], `${report.texts} of ${report.texts}`);
      }
    }
  }
});
