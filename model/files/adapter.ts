/**
 * LoRA adapters in PEFT's format: a folder with `adapter_config.json` and
 * `adapter_model.safetensors`. https://huggingface.co/docs/peft/developer_guides/checkpoint
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { type LlamaConfig, weightShapes } from "../config.ts";
import {
  type AdapterConfig,
  adapterConfigJson,
  isLinearModule,
  LINEAR_MODULES,
  type LinearModule,
  parseAdapterConfig,
  type Targets,
} from "./adapter_config.ts";
import { DAMAGED_FILE, refuseNotFinite } from "./finite.ts";
import { fromFloat32, toFloat32 } from "./half.ts";
import { openSafetensors, type SafetensorsFile, writeSafetensors } from "./safetensors.ts";
import {
  brief,
  bytesPerElement,
  exists,
  type FileDtype,
  readJson,
  sameShape,
  writeFolder,
  writeJson,
} from "./weights.ts";

export { type AdapterConfig, isLinearModule, LINEAR_MODULES, type LinearModule };

/** A matrix in host memory. */
export interface AdapterTensor {
  /** `[r, in]` for A, `[out, r]` for B. */
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
}

const CONFIG_FILE = "adapter_config.json";
const TENSORS_FILE = "adapter_model.safetensors";
/** The longest there are name every layer of a model, some 50 bytes each. */
const MAX_CONFIG_BYTES = 1_000_000;

/** PEFT's name of A `[r, in]` or B `[out, r]` of one linear layer. */
export function adapterTensorName(layer: number, module: LinearModule, matrix: "A" | "B"): string {
  const parent = LINEAR_MODULES[module];
  return `base_model.model.model.layers.${layer}.${parent}.${module}.lora_${matrix}.weight`;
}

/** Every tensor of an adapter for a model, by name, with its shape; layers in order, A before B. */
export function adapterShapes(
  model: LlamaConfig,
  { r, target_modules }: Pick<AdapterConfig, "r" | "target_modules">,
): Map<string, number[]> {
  const weights = weightShapes(model), shapes = new Map<string, number[]>();
  for (let layer = 0; layer < model.num_hidden_layers; layer++) {
    for (const module of target_modules) {
      const weight = `model.layers.${layer}.${LINEAR_MODULES[module]}.${module}.weight`;
      const [out, input] = weights.get(weight)!;
      shapes.set(adapterTensorName(layer, module, "A"), [r, input]);
      shapes.set(adapterTensorName(layer, module, "B"), [out, r]);
    }
  }
  return shapes;
}

/** Checks names, shapes and completeness of an adapter's tensors as far as its config tells them. */
function checkTensors(file: SafetensorsFile, config: AdapterConfig, targets: Targets): void {
  const fail = (name: string, problem: string): never => {
    throw new UserError(`${file.path}: tensor ${brief(name)} ${problem}`);
  };
  const layers = new Set<number>();
  for (const [name, { dtype, shape }] of file.tensors) {
    const match = name.match(/\.layers\.(0|[1-9]\d{0,5})\.\w+\.(\w+)\.lora_([AB])\.weight$/);
    const [layer, module, matrix] = match === null ? [] : [Number(match[1]), match[2], match[3]];
    if (
      layer === undefined || !isLinearModule(module) ||
      name !== adapterTensorName(layer, module, matrix as "A" | "B")
    ) {
      return fail(name, "is no LoRA matrix of a Llama's linear layer");
    }
    if (!targets.has(module)) {
      fail(name, `is for ${module}, which is not in target_modules of ${CONFIG_FILE}`);
    }
    if (shape.length !== 2 || shape[matrix === "A" ? 0 : 1] !== config.r || shape.includes(0)) {
      const form = matrix === "A" ? `[${config.r}, in]` : `[out, ${config.r}]`;
      fail(name, `has shape ${brief(shape)}, expected ${form} since r is ${config.r}`);
    }
    if (!["F32", "F16", "BF16"].includes(dtype)) {
      fail(name, `has dtype ${dtype}, expected F32, F16 or BF16`);
    }
    layers.add(layer);
  }
  if (layers.size === 0) throw new UserError(`${file.path}: holds no LoRA matrices`);
  for (const layer of layers) {
    for (const [module, blocks] of targets) {
      if (blocks !== "every" && !blocks.has(layer)) {
        throw new UserError(
          `${file.path}: has matrices for layer ${layer}, but target_modules of ${CONFIG_FILE} does ` +
            `not name its ${module}, expected the same modules in every layer`,
        );
      }
      for (const matrix of ["A", "B"] as const) {
        const name = adapterTensorName(layer, module, matrix);
        if (!file.tensors.has(name)) fail(name, "is missing");
      }
    }
  }
}

/**
 * Reads an adapter folder. Tensors stored as f16 or bf16 are widened to float32, and written back as
 * they were.
 *
 * That it fits a model is checked by `checkAdapter`.
 *
 * @throws UserError that names the file and the field or tensor, for everything that is not plain
 *   LoRA of a Llama's linear layers (DoRA, rsLoRA, trained biases, rank patterns ...).
 */
export function readAdapter(folder: string): Adapter {
  const configPath = join(folder, CONFIG_FILE), tensorsPath = join(folder, TENSORS_FILE);
  const json = readJson(configPath, MAX_CONFIG_BYTES);
  const { config, targets } = parseAdapterConfig(json, configPath);
  if (!exists(tensorsPath)) {
    throw new UserError(`${folder}: expected ${TENSORS_FILE} beside ${CONFIG_FILE}`);
  }
  const file = openSafetensors(tensorsPath);
  try {
    checkTensors(file, config, targets);
    const tensors = new Map<string, AdapterTensor>();
    for (const name of [...file.tensors.keys()].sort()) {
      const { dtype, shape, begin, end } = file.tensors.get(name)!;
      const bytes = new Uint8Array(end - begin);
      file.readSync(name, 0, bytes);
      const data = dtype === "F32"
        ? new Float32Array(bytes.buffer)
        : toFloat32(bytes, dtype as FileDtype);
      refuseNotFinite(data, `${tensorsPath}: tensor ${brief(name)}`, DAMAGED_FILE);
      tensors.set(name, { shape, data, dtype: dtype as FileDtype });
    }
    return { config, tensors };
  } finally {
    file.close();
  }
}

/**
 * Checks that an adapter fits a model: the same layers, and matrices of its sizes.
 *
 * @param folder What the adapter is called in messages.
 * @throws UserError that names the tensor and the two shapes.
 */
export function checkAdapter(
  { config, tensors }: Adapter,
  model: LlamaConfig,
  folder: string,
): void {
  const shapes = adapterShapes(model, config);
  for (const [name, expected] of shapes) {
    const tensor = tensors.get(name);
    const problem = tensor === undefined
      ? `is missing, but the model has ${model.num_hidden_layers} layers`
      : !sameShape(tensor.shape, expected)
      ? `has shape ${brief(tensor.shape)}, but the model needs ${brief(expected)}`
      : undefined;
    if (problem !== undefined) {
      throw new UserError(`${folder}: adapter tensor ${brief(name)} ${problem}`);
    }
  }
  for (const name of tensors.keys()) {
    if (shapes.has(name)) continue;
    throw new UserError(
      `${folder}: adapter tensor ${brief(name)} is for a layer that the model, ` +
        `with ${model.num_hidden_layers} layers, does not have`,
    );
  }
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
 * @param tensors Under the names of `adapterTensorName`, with the shapes of `adapterShapes`.
 * @throws UserError where the folder exists or can't be written.
 */
export async function writeAdapter(
  folder: string,
  config: AdapterConfig,
  tensors: ReadonlyMap<
    string,
    { shape: readonly number[]; data: Float32Array; dtype?: FileDtype }
  >,
): Promise<void> {
  const sorted = [...tensors].sort(([a], [b]) => a < b ? -1 : 1);
  await writeFolder(folder, async (temporary) => {
    writeJson(join(temporary, CONFIG_FILE), adapterConfigJson(config));
    await writeSafetensors(
      join(temporary, TENSORS_FILE),
      sorted.map(([name, { shape, data, dtype = "F32" }]) => (
        { name, dtype, shape, data: fileBytes(data, dtype) }
      )),
    );
  });
}
