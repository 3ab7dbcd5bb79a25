/** Adapter folders as PEFT writes them, and what is refused of others, for the tests of adapter.ts. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import {
  type Adapter,
  adapterShapes,
  checkAdapter,
  readAdapter,
} from "../../../model/adapter/adapter_folder.ts";
import { type AdapterConfig, adapterConfig } from "../../../model/adapter/adapter_config.ts";
import { type TensorToWrite, writeSafetensors } from "../../../model/formats/write_safetensors.ts";
import type { FileDtype } from "../../../model/formats/weights.ts";

/** The folder of all that a test file writes; it is gone at the end. */
export const root = Deno.makeTempDirSync();
globalThis.addEventListener("unload", () => Deno.removeSync(root, { recursive: true }));

/** The model that the adapters are for. */
export const MODEL = presetConfig("tiny");
/** Its adapter's configuration, as PEFT_JSON says it. */
export const CONFIG: AdapterConfig = adapterConfig({
  r: 3,
  lora_alpha: 32,
  lora_dropout: 0.05,
  target_modules: ["q_proj", "v_proj"],
  base_model_name_or_path: "random:tiny",
});

/** A complete adapter of the tiny model with different numbers everywhere. */
export function example(config: AdapterConfig = CONFIG): Adapter {
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
export const PEFT_JSON = {
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
export async function folderWith(
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

/** Asserts that reading an adapter, or comparing it with the model, is refused in a message that names the folder. */
export function refused(folder: string, message: RegExp, model = MODEL): void {
  assert.throws(() => checkAdapter(readAdapter(folder), model, folder), (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.ok(error.message.startsWith(folder), error.message);
    assert.match(error.message, message);
    return true;
  });
}
