/**
 * LoRA adapters in PEFT's format: a folder with `adapter_config.json` and `adapter_model.safetensors` or, from
 * older releases, `adapter_model.bin`. https://huggingface.co/docs/peft/developer_guides/checkpoint
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { type AdapterPlan, adapterPlan } from "./plan.ts";
import { copiedWeight, copyName, loraShapes, PREFIX, weightShape } from "./tensors.ts";
import type { ModelConfig } from "../families/config.ts";
import {
  type AdapterConfig,
  adapterConfig,
  adapterConfigJson,
  parseAdapterConfig,
} from "./adapter_config.ts";
import { DAMAGED_FILE, refuseNotFinite } from "../formats/finite.ts";
import { noAdapter } from "../formats/folder_contents.ts";
import { fromFloat32, toFloat32 } from "../formats/half.ts";
import { openTorchFile } from "../formats/pth.ts";
import { openSafetensors } from "../formats/safetensors.ts";
import { writeSafetensors } from "../formats/write_safetensors.ts";
import type { TensorEntry, TensorFile } from "../formats/tensor_file.ts";
import { brief, readJson, writeJson } from "../files/json_file.ts";
import { bytesPerElement, type FileDtype, isFileDtype, sameShape } from "../formats/weights.ts";
import { exists, isFolder } from "../files/whole_file.ts";
import { writeFolder } from "../files/write_folder.ts";

/** A tensor in host memory. */
export interface AdapterTensor {
  shape: number[];
  /** Its numbers, widened where the file has them in half precision. */
  data: Float32Array<ArrayBuffer>;
  /** How a file holds them. Default: F32. */
  dtype?: FileDtype;
}

/** An adapter in host memory; tensors under PEFT's names. */
export interface Adapter {
  config: AdapterConfig;
  tensors: Map<string, AdapterTensor>;
  /** What the file of tensors says of itself (model/transformer/base_quantization.ts). */
  metadata?: Readonly<Record<string, string>>;
}

const CONFIG_FILE = "adapter_config.json";
const TENSORS_FILE = "adapter_model.safetensors", TORCH_FILE = "adapter_model.bin";
/** The longest there are name every layer of a model, some 50 bytes each. */
const MAX_CONFIG_BYTES = 1_000_000;

/** Every tensor that LoRA of this configuration adds to a model, by name, with its shape. */
export function adapterShapes(
  model: ModelConfig,
  config: Partial<AdapterConfig> & Pick<AdapterConfig, "r" | "target_modules">,
): Map<string, number[]> {
  return loraShapes(model, adapterPlan(adapterConfig(config), model, "adapter"));
}

/** Opens the file of an adapter's tensors. */
function openTensors(folder: string): TensorFile {
  const [safe, torch] = [TENSORS_FILE, TORCH_FILE].map((file) => join(folder, file));
  if (exists(safe)) return openSafetensors(safe);
  if (exists(torch)) return openTorchFile(torch);
  throw new UserError(`${folder}: expected ${TENSORS_FILE} or ${TORCH_FILE} beside ${CONFIG_FILE}`);
}

/**
 * Reads an adapter folder. Tensors stored as f16 or bf16 are widened to float32, and written back as
 * they were.
 *
 * That it fits a model is checked by `checkAdapter`.
 *
 * @throws UserError that names the file and the field or tensor, for what is not LoRA, or can't be read.
 */
export function readAdapter(folder: string): Adapter {
  const configPath = join(folder, CONFIG_FILE);
  if (exists(folder) && (!isFolder(folder) || !exists(configPath))) throw noAdapter(folder);
  const config = parseAdapterConfig(readJson(configPath, MAX_CONFIG_BYTES), configPath);
  const file = openTensors(folder);
  try {
    const tensors = new Map<string, AdapterTensor>();
    for (const [name, entry] of [...file.tensors].sort(([a], [b]) => a < b ? -1 : 1)) {
      const tensor = readTensor(file, name, entry);
      refuseNotFinite(tensor.data, `${file.path}: tensor ${brief(name)}`, DAMAGED_FILE);
      tensors.set(name, tensor);
    }
    if (tensors.size === 0) throw new UserError(`${file.path}: holds no tensors`);
    return { config, tensors, metadata: file.metadata };
  } finally {
    file.close();
  }
}

function readTensor(
  file: TensorFile,
  name: string,
  { dtype, shape, begin, end }: TensorEntry,
): AdapterTensor {
  if (!isFileDtype(dtype)) {
    throw new UserError(
      `${file.path}: tensor ${brief(name)} has dtype ${dtype}, expected F32, F16 or BF16`,
    );
  }
  const bytes = new Uint8Array(end - begin);
  file.readSync(name, 0, bytes);
  const data = dtype === "F32" ? new Float32Array(bytes.buffer) : toFloat32(bytes, dtype);
  return { shape, data, dtype };
}

/**
 * Checks that an adapter fits a model: every tensor that its configuration asks for, and no other.
 *
 * @param folder What the adapter is called in messages.
 * @returns What the adapter does to the model.
 * @throws UserError that names the field or the tensor, with the two shapes.
 */
export function checkAdapter(
  { config, tensors }: Adapter,
  model: ModelConfig,
  folder: string,
): AdapterPlan {
  const plan = adapterPlan(config, model, join(folder, CONFIG_FILE));
  const fail = (name: string, problem: string): never => {
    throw new UserError(`${folder}: adapter tensor ${brief(name)} ${problem}`);
  };
  const needed = loraShapes(model, plan);
  for (const weight of plan.replaced) {
    const shape = weightShape(model, weight);
    if (shape === undefined) throw new RangeError(`the model has no weight "${weight}"`);
    needed.set(copyName(plan, weight), shape);
  }
  for (const [name, shape] of needed) {
    const tensor = tensors.get(name);
    if (tensor === undefined) fail(name, `is missing, but ${CONFIG_FILE} asks for it`);
    else if (!sameShape(tensor.shape, shape)) {
      fail(name, `has shape ${brief(tensor.shape)}, but the model needs ${brief(shape)}`);
    }
  }
  for (const [name, { shape }] of tensors) {
    if (!needed.has(name)) checkExtra(name, shape, { model, plan, fail });
  }
  return plan;
}

/** Checks a tensor that need not be there: a copy of a weight that the adapter does not change. */
function checkExtra(
  name: string,
  shape: readonly number[],
  { model, plan, fail }: {
    model: ModelConfig;
    plan: AdapterPlan;
    fail: (name: string, problem: string) => never;
  },
): void {
  const weight = copiedWeight(name);
  const own = weight === undefined ? undefined : weightShape(model, weight);
  if (own !== undefined) {
    if (sameShape(shape, own)) return;
    const resized = shape.length === 2 && own[0] === model.vocab_size && shape[1] === own[1];
    fail(
      name,
      `has shape ${brief(shape)}, but the model has ${brief(own)}` +
        (resized
          ? ": the adapter belongs to a model whose vocabulary was resized, expected that one as --model"
          : ""),
    );
  }
  const layer = /^base_model\.model\.model\.layers\.(\d+)\./.exec(name)?.[1];
  if (layer !== undefined && Number(layer) >= model.num_hidden_layers) {
    fail(
      name,
      `is for a layer that the model, with ${model.num_hidden_layers} layers, does not have`,
    );
  }
  const module = /^base_model\.model\.(.+)\.lora_/.exec(name)?.[1];
  if (module !== undefined && !plan.modules.has(module)) {
    fail(name, `is for a module that ${CONFIG_FILE} does not ask for`);
  }
  fail(name, `is not one that ${CONFIG_FILE} asks for, expected names that begin with ${PREFIX}`);
}

/** A tensor's bytes in a file, made when they are asked for. */
function* fileBytes(data: Float32Array, dtype: FileDtype): Generator<Uint8Array> {
  const bytes = new Uint8Array(data.length * bytesPerElement(dtype));
  fromFloat32(data, dtype, bytes);
  yield bytes;
}

/**
 * Writes an adapter folder that PEFT and `readAdapter` load, each tensor in its dtype. The folder appears
 * under its name only when it is complete.
 *
 * @param tensors Under PEFT's names.
 * @param metadata What their file says beside them; PEFT doesn't look at it.
 * @throws UserError where the folder exists or can't be written.
 */
export async function writeAdapter(
  folder: string,
  config: AdapterConfig,
  tensors: ReadonlyMap<
    string,
    { shape: readonly number[]; data: Float32Array; dtype?: FileDtype }
  >,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const sorted = [...tensors].sort(([a], [b]) => a < b ? -1 : 1);
  await writeFolder(folder, async (temporary) => {
    writeJson(join(temporary, CONFIG_FILE), adapterConfigJson(config));
    await writeSafetensors(
      join(temporary, TENSORS_FILE),
      sorted.map(([name, { shape, data, dtype = "F32" }]) => (
        { name, dtype, shape, data: fileBytes(data, dtype) }
      )),
      { format: "pt", ...metadata },
    );
  });
}
