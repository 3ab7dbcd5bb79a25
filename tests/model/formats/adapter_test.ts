import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import {
  type Adapter,
  type AdapterConfig,
  adapterConfig,
  adapterShapes,
  checkAdapter,
  LINEAR_MODULES,
  readAdapter,
  writeAdapter,
} from "../../../model/formats/adapter.ts";
import { openSafetensors } from "../../../model/formats/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../../model/formats/write_safetensors.ts";
import type { FileDtype } from "../../../model/formats/weights.ts";
import { fixturePath } from "../../fixtures.ts";
import { randomPicker } from "../../fuzz/mutate.ts";
import { adapterTensorName } from "../../adapter_names.ts";

let root = "";
Deno.test.beforeAll(() => {
  root = Deno.makeTempDirSync();
});
Deno.test.afterAll(() => Deno.removeSync(root, { recursive: true }));

const MODEL = presetConfig("tiny");
const CONFIG: AdapterConfig = adapterConfig({
  r: 3,
  lora_alpha: 32,
  lora_dropout: 0.05,
  target_modules: ["q_proj", "v_proj"],
  base_model_name_or_path: "random:tiny",
});

/** A complete adapter of the tiny model with different numbers everywhere. */
function example(config: AdapterConfig = CONFIG): Adapter {
  let next = 0;
  const tensors = new Map(
    [...adapterShapes(MODEL, config)].map(([name, shape]) => {
      const data = Float32Array.from({ length: shape[0] * shape[1] }, () => next++ / 7);
      return [name, { shape, data, dtype: "F32" as const }];
    }),
  );
  return { config, tensors };
}

/** What PEFT 0.11 writes for such an adapter. */
const PEFT_JSON = {
  alpha_pattern: {},
  auto_mapping: null,
  base_model_name_or_path: "random:tiny",
  bias: "none",
  fan_in_fan_out: false,
  inference_mode: true,
  init_lora_weights: true,
  layer_replication: null,
  layers_pattern: null,
  layers_to_transform: null,
  loftq_config: {},
  lora_alpha: 32,
  lora_dropout: 0.05,
  megatron_config: null,
  megatron_core: "megatron.core",
  modules_to_save: null,
  peft_type: "LORA",
  r: 3,
  rank_pattern: {},
  revision: null,
  target_modules: ["q_proj", "v_proj"],
  task_type: "CAUSAL_LM",
  use_dora: false,
  use_rslora: false,
};

/** Writes an adapter folder without any check; `dtype` says what the bytes are called. */
async function folderWith(
  label: string,
  json: unknown,
  tensors: { name: string; shape: readonly number[] }[] = [...example().tensors].map(
    ([name, { shape }]) => ({ name, shape }),
  ),
  dtype: FileDtype = "F32",
): Promise<string> {
  const folder = join(root, label);
  Deno.mkdirSync(folder);
  Deno.writeTextFileSync(join(folder, "adapter_config.json"), JSON.stringify(json));
  const files = tensors.map(({ name, shape }): TensorToWrite => {
    const bytes = shape.reduce((a, b) => a * b, dtype === "F32" ? 4 : 2);
    return { name, shape, dtype, data: [new Uint8Array(bytes).fill(0x3c)] };
  });
  await writeSafetensors(join(folder, "adapter_model.safetensors"), files);
  return folder;
}

function refused(folder: string, message: RegExp, model = MODEL): void {
  assert.throws(() => checkAdapter(readAdapter(folder), model, folder), (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.ok(error.message.startsWith(folder), error.message);
    assert.match(error.message, message);
    return true;
  });
}

Deno.test("adapterTensorName has PEFT's names", () => {
  const prefix = "base_model.model.model.layers.";
  const name = `${prefix}0.self_attn.q_proj.lora_A.weight`;
  assert.equal(adapterTensorName(0, "q_proj", "A"), name);
  assert.equal(adapterTensorName(31, "down_proj", "B"), `${prefix}31.mlp.down_proj.lora_B.weight`);
});

Deno.test("adapterShapes: A is [r, in], B is [out, r], grouped keys included", () => {
  const shapes = adapterShapes(MODEL, { r: 3, target_modules: ["k_proj", "down_proj"] });
  assert.equal(shapes.size, 8);
  assert.deepEqual(shapes.get(adapterTensorName(1, "k_proj", "A")), [3, 64]);
  assert.deepEqual(shapes.get(adapterTensorName(1, "k_proj", "B")), [32, 3]);
  assert.deepEqual(shapes.get(adapterTensorName(0, "down_proj", "A")), [3, 176]);
  assert.deepEqual(shapes.get(adapterTensorName(0, "down_proj", "B")), [64, 3]);
});

Deno.test("an adapter of all seven layers is read back bit for bit", async () => {
  const target_modules = Object.keys(LINEAR_MODULES) as AdapterConfig["target_modules"];
  const adapter = example({ ...CONFIG, target_modules, base_model_name_or_path: null });
  const folder = join(root, "runs", "seven");
  await writeAdapter(folder, adapter.config, adapter.tensors);
  const read = readAdapter(folder);
  assert.deepEqual(read.config, adapter.config);
  assert.deepEqual(read.tensors, adapter.tensors);
  checkAdapter(read, MODEL, folder);
});

Deno.test("writeAdapter's files are PEFT's: field by field, float32, sorted", async () => {
  const folder = join(root, "peft");
  await writeAdapter(folder, CONFIG, new Map([...example().tensors].reverse()));
  const json = JSON.parse(Deno.readTextFileSync(join(folder, "adapter_config.json")));
  const peft: Record<string, unknown> = PEFT_JSON;
  for (const [field, value] of Object.entries(json)) assert.deepEqual(value, peft[field], field);
  assert.deepEqual(Object.keys(json), Object.keys(json).sort());
  const file = openSafetensors(join(folder, "adapter_model.safetensors"));
  file.close();
  assert.deepEqual(file.metadata, { format: "pt" });
  assert.deepEqual([...file.tensors.keys()], [...example().tensors.keys()].sort());
  assert.ok([...file.tensors.values()].every(({ dtype }) => dtype === "F32"));
  assert.deepEqual([...Deno.readDirSync(folder)].map((entry) => entry.name).sort(), [
    "adapter_config.json",
    "adapter_model.safetensors",
  ]);
});

Deno.test("a view into a larger array is written as that view only", async () => {
  const data = new Float32Array(1000).fill(9).subarray(10, 10 + 3 * 64).fill(2);
  const tensors = new Map(example().tensors);
  const name = adapterTensorName(0, "q_proj", "A");
  tensors.set(name, { shape: [3, 64], data: data as Float32Array<ArrayBuffer> });
  const folder = join(root, "view");
  await writeAdapter(folder, CONFIG, tensors);
  assert.deepEqual([...readAdapter(folder).tensors.get(name)!.data], new Array(192).fill(2));
});

/** Bytes of each tensor of an adapter folder. */
function tensorBytesOf(folder: string): Map<string, { dtype: string; bytes: Uint8Array }> {
  const file = openSafetensors(join(folder, "adapter_model.safetensors"));
  const all = [...file.tensors].map(([name, { dtype, begin, end }]) => {
    const bytes = new Uint8Array(end - begin);
    file.readSync(name, 0, bytes);
    return [name, { dtype, bytes }] as const;
  });
  file.close();
  return new Map(all);
}

for (const dtype of ["F32", "F16", "BF16"] as const) {
  Deno.test(`an adapter read and written again has the same bytes: ${dtype}`, async () => {
    const pick = randomPicker(3);
    const tensors = [...example().tensors].map(([name, { shape }]): TensorToWrite => {
      const words = Uint16Array.from(
        { length: shape[0] * shape[1] * (dtype === "F32" ? 2 : 1) },
        // Any bits, but no NaN in half precision: its payload may change.
        () => dtype === "F32" || pick(2) ? pick(65536) & 0xbfff : pick(2) << 15,
      );
      return { name, dtype, shape, data: [new Uint8Array(words.buffer)] };
    });
    const [from, to] = [join(root, `from-${dtype}`), join(root, `to-${dtype}`)];
    Deno.mkdirSync(from);
    Deno.writeTextFileSync(join(from, "adapter_config.json"), JSON.stringify(PEFT_JSON));
    await writeSafetensors(join(from, "adapter_model.safetensors"), tensors);
    const adapter = readAdapter(from);
    await writeAdapter(to, adapter.config, adapter.tensors);
    const [before, after] = [tensorBytesOf(from), tensorBytesOf(to)];
    assert.equal(after.size, 8);
    for (const [name, { bytes }] of before) {
      assert.equal(after.get(name)!.dtype, dtype);
      assert.equal(Buffer.compare(after.get(name)!.bytes, bytes), 0, name);
    }
  });
}

Deno.test("adapters stored in half precision are widened", async () => {
  const name = adapterTensorName(1, "v_proj", "B");
  const widened = async (dtype: FileDtype) =>
    readAdapter(await folderWith(dtype, PEFT_JSON, undefined, dtype)).tensors.get(name)!;
  const { shape, data } = await widened("F16"); // every number is 0x3c3c
  assert.deepEqual(shape, [32, 3]);
  assert.deepEqual(new Set(data), new Set([1 + 0x3c / 1024]));
  const bits = new Uint32Array((await widened("BF16")).data.buffer);
  assert.deepEqual(new Set(bits), new Set([0x3c3c0000]));
});

Deno.test("readAdapter reads PEFT's own fields, of every release", async () => {
  const releases: Record<string, Record<string, unknown>> = {
    "0.3": {
      base_model_name_or_path: "random:tiny",
      bias: "none",
      fan_in_fan_out: false,
      inference_mode: true,
      init_lora_weights: true,
      lora_alpha: 32,
      lora_dropout: 0.05,
      modules_to_save: null,
      peft_type: "LORA",
      r: 3,
      target_modules: ["q_proj", "v_proj"],
      task_type: "CAUSAL_LM",
    },
    "0.11": PEFT_JSON,
    "0.15": {
      ...PEFT_JSON,
      corda_config: null,
      eva_config: null,
      exclude_modules: null,
      lora_bias: false,
      trainable_token_indices: null,
    },
    "0.18": {
      ...PEFT_JSON,
      alora_invocation_tokens: null,
      arrow_config: null,
      corda_config: null,
      ensure_weight_tying: false,
      eva_config: null,
      exclude_modules: null,
      lora_bias: false,
      peft_version: "0.18.0",
      qalora_group_size: 16,
      target_parameters: null,
      trainable_token_indices: null,
      use_qalora: false,
    },
  };
  for (const [release, json] of Object.entries(releases)) {
    assert.deepEqual(readAdapter(await folderWith(release, json)).config, CONFIG, release);
  }
});

Deno.test("target_modules may be all-linear, or longer names", async () => {
  const layers = [0, 1].flatMap((
    i,
  ) => [`model.layers.${i}.self_attn.q_proj`, `layers.${i}.mlp.up_proj`]);
  const seven = Object.keys(LINEAR_MODULES);
  const cases: [unknown, string[]][] = [
    ["all-linear", seven],
    ["All-Linear", seven],
    [["self_attn.q_proj", "mlp.up_proj"], ["q_proj", "up_proj"]],
    [layers, ["q_proj", "up_proj"]],
    [[...layers, "v_proj"], ["q_proj", "up_proj", "v_proj"]],
    [["layers.0.self_attn.q_proj", "q_proj"], ["q_proj"]],
  ];
  for (const [i, [target_modules, expected]] of cases.entries()) {
    const { tensors } = example({ ...CONFIG, target_modules: expected });
    const named = [...tensors].map(([name, { shape }]) => ({ name, shape }));
    const folder = await folderWith(`names${i}`, { ...PEFT_JSON, target_modules }, named);
    const { modules } = checkAdapter(readAdapter(folder), MODEL, folder);
    const names = new Set([...modules.keys()].map((name) => name.split(".").at(-1)));
    assert.deepEqual([...names].sort(), [...expected].sort());
  }
  const some = { ...PEFT_JSON, target_modules: ["model.layers.0.self_attn.q_proj", "v_proj"] };
  refused(
    await folderWith("some", some),
    /layers\.1\.self_attn\.q_proj\.lora_A\.weight" is for a module that adapter_config\.json does not ask for/,
  );
});

const REFUSED: [field: string, value: unknown][] = [
  ["peft_type", "IA3"],
  ["peft_type", undefined],
  ["task_type", "SEQ_CLS"],
  ["r", 0],
  ["r", "8"],
  ["r", undefined],
  ["lora_alpha", undefined],
  ["lora_alpha", -1],
  ["lora_alpha", 1e308],
  ["lora_dropout", 1],
  ["lora_dropout", "0.1"],
  ["target_modules", "q_proj"],
  ["target_modules", ["mlp.q_proj"]],
  ["target_modules", ["layers.x.self_attn.q_proj"]],
  ["target_modules", [3]],
  ["target_modules", []],
  ["target_modules", ["toString"]],
  ["exclude_modules", 3],
  ["bias", "some"],
  ["init_lora_weights", "pissa"],
  ["init_lora_weights", "loftq"],
  ["base_model_name_or_path", 7],
  ["use_dora", "yes"],
  ["modules_to_save", "lm_head"],
  ["rank_pattern", { q_proj: 0 }],
  ["alpha_pattern", { q_proj: "4" }],
  ["layers_to_transform", [-1]],
  ["layers_pattern", [3]],
  ["layer_replication", [[0, 2]]],
  ["trainable_token_indices", [0.5]],
  ["trainable_token_indices", { embed_tokens: 3 }],
  ["use_qalora", true],
  ["kasa_config", { beta: 1 }],
  ["a_field_of_the_future", "on"],
];

Deno.test("readAdapter refuses by name whatever is not plain LoRA", async () => {
  for (const [i, [field, value]] of REFUSED.entries()) {
    const folder = await folderWith(`refused${i}`, { ...PEFT_JSON, [field]: value });
    refused(folder, new RegExp(`adapter_config\\.json: ${field} is `));
  }
  refused(await folderWith("array", []), /adapter_config\.json: expected a JSON object$/);
});

Deno.test("readAdapter refuses tensors that its config does not describe", async () => {
  const all = [...example().tensors].map(([name, { shape }]) => ({ name, shape }));
  const name = adapterTensorName(1, "v_proj", "B");
  const others = all.filter((tensor) => tensor.name !== name);
  const cases: [string, typeof all, RegExp][] = [
    [
      "without",
      others,
      /"base_model.*1\.self_attn\.v_proj\.lora_B\.weight" is missing, but adapter_/,
    ],
    ["none", [], /holds no tensors$/],
    [
      "rank",
      [...others, { name, shape: [32, 4] }],
      /has shape \[32,4\], but the model needs \[32,3\]/,
    ],
    ["dims", [...others, { name, shape: [96] }], /has shape \[96\], but the model needs \[32,3\]/],
    ["empty", [...others, { name, shape: [0, 3] }], /has shape \[0,3\], but the model needs/],
    [
      "other",
      [...all, { name: adapterTensorName(0, "k_proj", "A"), shape: [3, 64] }],
      /k_proj.*is for a module that adapter_config\.json does not ask for$/,
    ],
    ...["lm_head.weight", name.replace("self_attn", "mlp"), name.replace("1", "01")].map((
      stranger,
      i,
    ): [string, typeof all, RegExp] => [
      `stranger${i}`,
      [...all, { name: stranger, shape: [32, 3] }],
      /is not one that adapter_config\.json asks for|is for a module that/,
    ]),
    [
      "resized",
      [...all, { name: "base_model.model.lm_head.weight", shape: [600, 64] }],
      /has shape \[600,64\], but the model has \[512,64\]: .* vocabulary was resized/,
    ],
  ];
  for (const [label, tensors, message] of cases) {
    refused(await folderWith(label, PEFT_JSON, tensors), message);
  }
});

Deno.test("adapter_model.bin is read as adapter_model.safetensors is", () => {
  const [bin, safe] = ["peft_bin", "peft/saved"].map((name) => readAdapter(fixturePath(name)));
  assert.deepEqual(bin.config, safe.config);
  assert.deepEqual([...bin.tensors.keys()].sort(), [...safe.tensors.keys()].sort());
  for (const [name, { shape, data, dtype }] of safe.tensors) {
    assert.deepEqual(bin.tensors.get(name), { shape, data, dtype }, name);
  }
});

Deno.test("readAdapter refuses a missing folder, file or truncated tensors", async () => {
  assert.throws(() => readAdapter(join(root, "nowhere")), {
    name: "UserError",
    message: /adapter_config\.json: it does not exist$/,
  });
  const folder = await folderWith("damaged", PEFT_JSON);
  const path = join(folder, "adapter_model.safetensors");
  Deno.truncateSync(path, Deno.statSync(path).size - 1);
  refused(folder, /is truncated: its tensors have 5376 bytes, of which 5375 are there/);
  Deno.removeSync(path);
  refused(
    folder,
    /expected adapter_model\.safetensors or adapter_model\.bin beside adapter_config\.json/,
  );
});

Deno.test("readAdapter refuses a configuration too large or nested too deeply to be one", async () => {
  const large = await folderWith("large", { ...PEFT_JSON, auto_mapping: "x".repeat(1e6) });
  refused(large, /adapter_config\.json: is \d+ bytes, expected a JSON file of at most 1 MB$/);
  const deep = await folderWith("deep", {});
  const path = join(deep, "adapter_config.json");
  Deno.writeTextFileSync(path, `{"x":${"[".repeat(5e5)}`);
  refused(deep, /adapter_config\.json: is nested more than 64 levels deep$/);
  // Brackets in a string are none.
  Deno.writeTextFileSync(path, JSON.stringify({ ...PEFT_JSON, peft_version: '["'.repeat(1e4) }));
  assert.deepEqual(readAdapter(deep).config, CONFIG);
});

Deno.test("checkAdapter compares with the model", () => {
  const refuse = (adapter: Adapter, model: typeof MODEL, message: RegExp) =>
    assert.throws(() => checkAdapter(adapter, model, "a"), { name: "UserError", message });
  checkAdapter(example(), MODEL, "a");
  refuse(
    example(),
    { ...MODEL, hidden_size: 128 },
    /^a: adapter tensor ".*" has shape \[3,64\], but the model needs \[3,128\]$/,
  );
  refuse(
    example(),
    { ...MODEL, num_hidden_layers: 3 },
    /is missing, but adapter_config\.json asks/,
  );
  refuse(example(), { ...MODEL, num_hidden_layers: 1 }, /with 1 layers, does not have$/);
});

Deno.test("writeAdapter overwrites nothing and leaves nothing half done", async () => {
  const folder = join(root, "taken");
  await writeAdapter(folder, CONFIG, example().tensors);
  const before = Deno.readFileSync(join(folder, "adapter_model.safetensors"));
  await assert.rejects(writeAdapter(folder, { ...CONFIG, r: 4 }, example().tensors), {
    name: "UserError",
    message: `${folder} exists already and is not overwritten`,
  });
  assert.deepEqual(Deno.readFileSync(join(folder, "adapter_model.safetensors")), before);
  const parent = join(root, "parent");
  const wrong = new Map([["w", { shape: [3], data: new Float32Array(2) }]]);
  await assert.rejects(writeAdapter(join(parent, "a"), CONFIG, wrong), { name: "RangeError" });
  assert.deepEqual([...Deno.readDirSync(parent)], []);
});
