/** Each adapter that is refused, and the file, field or tensor that the refusal names. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type Adapter, checkAdapter, readAdapter } from "../../../model/adapter/adapter_folder.ts";
import { adapterTensorName } from "../../adapter_names.ts";
import { CONFIG, example, folderWith, MODEL, PEFT_JSON, refused, root } from "./adapter_folders.ts";

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
