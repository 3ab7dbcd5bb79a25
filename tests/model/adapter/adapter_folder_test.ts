/** Adapters in PEFT's format, read and written. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import {
  adapterShapes,
  checkAdapter,
  readAdapter,
  writeAdapter,
} from "../../../model/adapter/adapter_folder.ts";
import type { AdapterConfig } from "../../../model/adapter/adapter_config.ts";
import { LINEAR_MODULES } from "../../../model/families/linear_modules.ts";
import { openSafetensors } from "../../../model/formats/safetensors.ts";
import { type TensorToWrite, writeSafetensors } from "../../../model/formats/write_safetensors.ts";
import type { FileDtype } from "../../../model/formats/weights.ts";
import { fixturePath } from "../../fixtures.ts";
import { randomPicker } from "../../fuzz/mutate.ts";
import { adapterTensorName } from "../../adapter_names.ts";
import { CONFIG, example, folderWith, MODEL, PEFT_JSON, refused, root } from "./adapter_folders.ts";
import { assertSameValues } from "../../same.ts";

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

Deno.test("adapter_model.bin is read as adapter_model.safetensors is", () => {
  const [bin, safe] = ["peft_bin", "peft/saved"].map((name) => readAdapter(fixturePath(name)));
  assert.deepEqual(bin.config, safe.config);
  assert.deepEqual([...bin.tensors.keys()].sort(), [...safe.tensors.keys()].sort());
  for (const [name, { shape, data, dtype }] of safe.tensors) {
    assert.deepEqual(bin.tensors.get(name), { shape, data, dtype }, name);
  }
});

Deno.test("writeAdapter overwrites nothing and leaves nothing half done", async () => {
  const folder = join(root, "taken");
  await writeAdapter(folder, CONFIG, example().tensors);
  const before = Deno.readFileSync(join(folder, "adapter_model.safetensors"));
  await assert.rejects(writeAdapter(folder, { ...CONFIG, r: 4 }, example().tensors), {
    name: "UserError",
    message: `${folder} exists already and is not overwritten`,
  });
  const after = Deno.readFileSync(join(folder, "adapter_model.safetensors"));
  assertSameValues(after, before, "adapter_model.safetensors");
  const parent = join(root, "parent");
  const wrong = new Map([["w", { shape: [3], data: new Float32Array(2) }]]);
  await assert.rejects(writeAdapter(join(parent, "a"), CONFIG, wrong), { name: "RangeError" });
  assert.deepEqual([...Deno.readDirSync(parent)], []);
});
