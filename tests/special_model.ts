/** The built-in model with some weights of one's own, as a folder: what real models have only when they are broken. */
import { join } from "node:path";
import { weightShapes } from "../model/families/config.ts";
import { toFloat32 } from "../model/formats/half.ts";
import { writeSafetensors } from "../model/formats/write_safetensors.ts";
import type { FileDtype } from "../model/formats/weights.ts";
import { openModel } from "../model/checkpoint/source.ts";

/**
 * Writes it in F32.
 *
 * @param change Called with every tensor's name and values, which it may change.
 */
export async function writeSpecialModel(
  folder: string,
  change: (name: string, values: Float32Array, shape: readonly number[]) => void,
): Promise<string> {
  const { weights, folder: builtin, config } = openModel("builtin");
  Deno.mkdirSync(folder);
  for (const name of ["config.json", "tokenizer.model"]) {
    Deno.copyFileSync(join(builtin!, name), join(folder, name));
  }
  const tensors = [];
  for (const name of weightShapes(config).keys()) {
    const { dtype, shape, bytes } = weights!.info(name);
    const raw = new Uint8Array(bytes);
    await weights!.read(name, 0, raw);
    const values = toFloat32(raw, dtype);
    change(name, values, shape);
    const data = [new Uint8Array(values.buffer)];
    tensors.push({ name, dtype: "F32" as FileDtype, shape, data });
  }
  weights!.close();
  await writeSafetensors(join(folder, "model.safetensors"), tensors);
  return folder;
}
