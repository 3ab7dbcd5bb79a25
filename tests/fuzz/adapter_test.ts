import assert from "node:assert/strict";
import { adapterShapes, checkAdapter, readAdapter } from "../../model/adapter/adapter_folder.ts";
import { presetConfig } from "../../model/families/presets.ts";
import { ascii, concat, little } from "../model/formats/pth_writer.ts";
import { fuzz, mutateBytes, mutateJson } from "./mutate.ts";

const SIZES = { hidden_size: 8, intermediate_size: 12, num_attention_heads: 2, head_dim: 4 };
const MODEL = { ...presetConfig("tiny"), ...SIZES, num_key_value_heads: 1, num_hidden_layers: 2 };

const CONFIG = JSON.stringify({
  alpha_pattern: {},
  base_model_name_or_path: "random:tiny",
  bias: "none",
  init_lora_weights: true,
  layers_to_transform: null,
  lora_alpha: 4,
  lora_dropout: 0.05,
  peft_type: "LORA",
  r: 2,
  target_modules: ["q_proj", "model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"],
  task_type: "CAUSAL_LM",
  use_dora: false,
});

/** A header that gives each matrix its place; every dtype occurs. */
function tensorsHeader(): { header: string; bytes: number } {
  const entries: Record<string, unknown> = {};
  let at = 0;
  const shapes = adapterShapes(MODEL, { r: 2, target_modules: ["q_proj", "up_proj"] });
  [...shapes].forEach(([name, shape], i) => {
    const dtype = ["F32", "F16", "BF16"][i % 3];
    const end = at + shape[0] * shape[1] * (dtype === "F32" ? 4 : 2);
    entries[name] = { dtype, shape, data_offsets: [at, end] };
    at = end;
  });
  return { header: JSON.stringify(entries), bytes: at };
}

Deno.test("20,000 damaged adapters load whole or are refused in a sentence", async () => {
  const { header, bytes } = tensorsHeader();
  // Numbers in every dtype: no exponent is that of an infinity.
  const data = Uint8Array.from({ length: bytes }, (_, i) => (i * 31) & 0x3f);
  const fileOf = (header: string, data: Uint8Array) => {
    const json = ascii(header);
    return concat(little(json.length, 8), json, data);
  };
  const config = ascii(CONFIG), whole = fileOf(header, data);
  const { loaded, problems } = await fuzz({
    seed: 20260102,
    rounds: 20_000,
    // Text of both files, and matrices in half precision that are copied and widened.
    total: 4,
    damage(pick) {
      const part = pick(5);
      const adapter_config = part < 3 ? ascii(mutateJson(CONFIG, pick)) : config;
      const tensors = part === 0 || part === 3
        ? fileOf(mutateJson(header, pick), data)
        : part === 4
        ? mutateBytes(whole, pick)
        : whole;
      return { "adapter_config.json": adapter_config, "adapter_model.safetensors": tensors };
    },
    load: (folder) => checkAdapter(readAdapter(folder), MODEL, folder),
  });
  assert.ok(loaded > 500 && loaded < 10_000, `${loaded} loaded`);
  assert.ok(problems.size > 40, [...problems].join("\n"));
});
