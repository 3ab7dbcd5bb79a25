/**
 * Folders of the tiny models of tests/fixtures/families.json. Weights are a hash of their tensor's name, as
 * make_families.py has it.
 */
import { join } from "node:path";
import { writeSafetensors } from "../../../model/formats/write_safetensors.ts";
import type { FileDtype } from "../../../model/formats/weights.ts";
import type { FamilyCase } from "../../fixtures.ts";

type Shapes = Readonly<Record<string, readonly number[]>>;

/** Numbers from -1 up to 1 that only depend on the name, exact in float32. */
function drawn(name: string, size: number): Float32Array<ArrayBuffer> {
  let seed = 2166136261;
  for (const byte of new TextEncoder().encode(name)) seed = Math.imul(seed ^ byte, 16777619);
  return Float32Array.from({ length: size }, (_, i) => {
    let x = (Math.imul(i, 2654435769) + seed) | 0;
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
    x ^= x >>> 16;
    return (x >>> 8) / 2 ** 23 - 1;
  });
}

/** What a model's tensor is scaled by, and moved. */
function placeOf(name: string, shape: readonly number[], offset: number): [number, number] {
  if (name.endsWith("norm.weight")) return [0.25, 1 - offset];
  if (name.endsWith(".bias") || name.includes("embed_tokens")) return [0.25, 0];
  return [2 ** -Math.trunc(Math.log2(shape[1]) / 2 - 1), 0];
}

async function write(
  path: string,
  shapes: Shapes,
  place: (name: string, shape: readonly number[]) => [scale: number, mean: number],
): Promise<void> {
  const tensors = Object.entries(shapes).map(([name, shape]) => {
    const [scale, mean] = place(name, shape);
    const values = drawn(name, shape.reduce((a, b) => a * b)).map((v) => v * scale + mean);
    return {
      name,
      dtype: "F32" as FileDtype,
      shape: [...shape],
      data: [new Uint8Array(values.buffer)],
    };
  });
  await writeSafetensors(path, tensors);
}

/** Writes a case's model into a folder, with its adapter in `adapter`; returns the folder. */
export async function writeDrawnModel(
  folder: string,
  { config, shapes, adapter }: FamilyCase,
  lora: Record<string, unknown>,
): Promise<string> {
  const adapterFolder = join(folder, "adapter");
  Deno.mkdirSync(adapterFolder, { recursive: true });
  Deno.writeTextFileSync(join(folder, "config.json"), JSON.stringify(config));
  const offset = String(config.model_type).startsWith("gemma") ? 1 : 0;
  const place = (name: string, shape: readonly number[]) => placeOf(name, shape, offset);
  await write(join(folder, "model.safetensors"), shapes, place);
  const settings = { peft_type: "LORA", task_type: "CAUSAL_LM", lora_dropout: 0, ...lora };
  Deno.writeTextFileSync(join(adapterFolder, "adapter_config.json"), JSON.stringify(settings));
  await write(
    join(adapterFolder, "adapter_model.safetensors"),
    adapter,
    (name) => [name.includes("lora_A") ? 0.25 : 0.5, 0],
  );
  return folder;
}
