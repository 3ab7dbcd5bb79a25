/**
 * From what the user calls a model to its weights on the GPU: `builtin`, `random:PRESET`,
 * `random:PATH/config.json`, or a Hugging Face folder.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { cast, castBytes } from "../kernels/cast.ts";
import { UserError } from "../kernels/errors.ts";
import type { Gpu } from "../kernels/gpu.ts";
import { fillConstant, fillNormal, fillUniform } from "../kernels/random.ts";
import { bytesOf, Tensor } from "../kernels/tensor.ts";
import type { Adapter } from "./adapter.ts";
import { type LlamaConfig, parseLlamaConfig, presetConfig, withLayers } from "./config.ts";
import { openHuggingFace } from "./huggingface.ts";
import type { Llama } from "./llama.ts";
import type { Parameter } from "./parameters.ts";
import { loadTokenizer, type Tokenizer, vocabularyCheck } from "./tokenizer.ts";
import { bytesPerElement, exists, readJson, sameShape, type WeightSource } from "./weights.ts";

/** Standard deviation of random weights, as Llama is initialised. */
const INITIAL_STD = 0.02;
/** Bytes read from a file and sent to the GPU at a time. */
export const UPLOAD_BYTES = 1 << 24;
/** Random streams of weights and adapters start apart. */
const ADAPTER_STREAM = 1 << 20;

/** Where a model's weights come from. */
export interface ModelSource {
  /** What the user called it. */
  name: string;
  config: LlamaConfig;
  /** Absent for random weights. */
  weights?: WeightSource;
  /** Folder or file the tokenizer is in, where the model brings one. */
  tokenizerPath?: string;
}

/** The folder of the built-in model. */
function builtinModelFolder(): string {
  return fileURLToPath(new URL("../examples/builtin/model", import.meta.url));
}

/**
 * Finds a model and reads its configuration; weights are read later.
 *
 * @param layers Only the first so many blocks.
 * @throws {UserError} where there is no such model or its files are wrong.
 */
export function openModel(name: string, layers?: number): ModelSource {
  if (name.startsWith("random:")) {
    const what = name.slice("random:".length);
    const isFile = what.endsWith(".json");
    const config = isFile ? parseLlamaConfig(readJson(what), what) : presetConfig(what);
    const beside = isFile ? tokenizerBeside(dirname(what)) : undefined;
    return {
      name,
      config: layers === undefined ? config : withLayers(config, layers, name),
      tokenizerPath: beside,
    };
  }
  const folder = name === "builtin" ? builtinModelFolder() : name;
  if (!exists(folder)) {
    throw new UserError(
      `model "${name}" does not exist; expected builtin, random:llama2-7b (-13b, llama-1b, tiny) ` +
        "or a Hugging Face folder",
    );
  }
  const weights = openHuggingFace(folder, { layers });
  return { name, config: weights.config, weights, tokenizerPath: tokenizerBeside(folder) };
}

function tokenizerBeside(folder: string): string | undefined {
  const path = join(folder, "tokenizer.model");
  return exists(path) ? path : undefined;
}

/** A model and the tokenizer that goes with it. */
export interface ModelWithTokenizer {
  source: ModelSource;
  tokenizer: Tokenizer;
  /** Folder or file that the tokenizer came from. */
  tokenizerPath: string;
}

/**
 * Finds a model as {@linkcode openModel} does, and its tokenizer: the one named, or the one beside it.
 *
 * @throws {UserError} also where there is no tokenizer, or one of another vocabulary.
 */
export async function openModelWithTokenizer(
  { model, layers, tokenizer: given }: { model: string; layers?: number; tokenizer?: string },
): Promise<ModelWithTokenizer> {
  const source = openModel(model, layers);
  const tokenizerPath = given ?? source.tokenizerPath;
  if (tokenizerPath === undefined) {
    throw new UserError(
      `model "${source.name}" brings no tokenizer.model; give one with --tokenizer FILE`,
    );
  }
  const tokenizer = await loadTokenizer(tokenizerPath);
  const files = { tokenizer: tokenizerPath, model };
  vocabularyCheck(tokenizer, source.config.vocab_size, files);
  return { source, tokenizer, tokenizerPath };
}

/**
 * Fills the model's weights from their source, or from `seed` where it has none.
 *
 * @param chunkBytes Bytes sent at a time, a multiple of 512: parts begin where a binding may.
 */
export async function loadWeights(
  gpu: Gpu,
  model: Llama,
  source: ModelSource,
  { seed, progress, chunkBytes = UPLOAD_BYTES }: {
    seed: number;
    progress?: (done: number, total: number) => void;
    chunkBytes?: number;
  },
): Promise<void> {
  if (source.weights === undefined) {
    model.weights.forEach((parameter, stream) => randomise(gpu, parameter, seed, stream));
    await gpu.finish();
    return;
  }
  const { weights } = source;
  const total = model.weights.reduce((sum, { name }) => sum + weights.info(name).bytes, 0);
  const words = gpu.memory.tensor("workspace", "upload", "u32", [chunkBytes / 4]);
  let done = 0, queued = 0;
  for (const parameter of model.weights) {
    const { dtype } = weights.info(parameter.name);
    const target = parameter.trained?.master ?? parameter.value;
    let element = 0;
    for (const chunk of weights.read(parameter.name, chunkBytes)) {
      const count = chunk.byteLength / bytesPerElement(dtype);
      gpu.write(words, chunk);
      castBytes(gpu, { words, from: dtype, y: elements(target, element, count), count });
      element += count;
      done += chunk.byteLength;
      queued += chunk.byteLength;
      // Uploads queue up in host memory until the GPU has taken them.
      if (queued >= UPLOAD_BYTES) {
        await gpu.finish();
        queued = 0;
      }
      progress?.(done, total);
    }
    refreshValue(gpu, parameter);
  }
  await gpu.finish();
  gpu.free(words);
  weights.close();
}

/** `count` elements of a tensor from element `first` on; both start where a binding may. */
function elements(tensor: Tensor, first: number, count: number): Tensor {
  const offset = tensor.offset + first * bytesOf(tensor.dtype);
  return new Tensor(tensor.name, tensor.dtype, [count], tensor.buffer, offset);
}

/** The first rows of a padded tensor: those that the file has. */
function unpadded({ shape, name }: Parameter, tensor: Tensor): Tensor {
  return new Tensor(
    name,
    tensor.dtype,
    [shape[0], ...tensor.shape.slice(1)],
    tensor.buffer,
    tensor.offset,
  );
}

/** Makes the compute-dtype value agree with the f32 master. */
export function refreshValue(gpu: Gpu, { value, trained }: Parameter): void {
  if (trained !== undefined && trained.master !== value) cast(gpu, { x: trained.master, y: value });
}

function randomise(gpu: Gpu, parameter: Parameter, seed: number, stream: number): void {
  const y = unpadded(parameter, parameter.trained?.master ?? parameter.value);
  if (parameter.shape.length === 1) fillConstant(gpu, { y, value: 1 });
  else fillNormal(gpu, { y, mean: 0, std: INITIAL_STD, seed, stream });
  refreshValue(gpu, parameter);
}

/**
 * Fresh adapters: B zero, A from U(−1/√in, 1/√in) as PEFT's Kaiming initialisation gives it, or from
 * N(0, 1/r²) with `gaussian`, also as in PEFT.
 */
export function initializeAdapters(
  gpu: Gpu,
  model: Llama,
  { init, seed }: { init: "kaiming" | "gaussian"; seed: number },
): void {
  model.adapters.forEach((parameter, index) => {
    const target = parameter.trained?.master ?? parameter.value;
    gpu.clear(target);
    if (/lora_A/.test(parameter.name)) {
      const y = unpadded(parameter, target);
      const [rank, width] = parameter.shape;
      const stream = ADAPTER_STREAM + index;
      const bound = 1 / Math.sqrt(width);
      if (init === "kaiming") fillUniform(gpu, { y, low: -bound, high: bound, seed, stream });
      else fillNormal(gpu, { y, mean: 0, std: 1 / rank, seed, stream });
    }
    refreshValue(gpu, parameter);
  });
}

/** Fills the model's adapters with those of a PEFT folder. */
export function loadAdapter(gpu: Gpu, model: Llama, adapter: Adapter): void {
  for (const parameter of model.adapters) {
    const { data } = adapter.tensors.get(parameter.name)!;
    setParameter(gpu, parameter, data);
  }
}

/** Sets a parameter (its master, where it is trained) to values of its file shape. */
export function setParameter(gpu: Gpu, parameter: Parameter, data: Float32Array): void {
  const { shape, trained, value } = parameter;
  const target = trained?.master ?? value;
  const padded = padRows(data, shape, target.shape);
  if (target.dtype === "f32") {
    gpu.write(target, padded);
    refreshValue(gpu, parameter);
    return;
  }
  // Like the parameter itself, and unlike working memory, it may exceed what one binding covers.
  const staging = gpu.memory.tensor("parameter", "upload", "f32", target.shape);
  gpu.write(staging, padded);
  cast(gpu, { x: staging, y: target });
  gpu.free(staging);
}

/** `[rows, columns]` in a zero-padded larger shape; `data` itself where there is no padding. */
export function padRows(
  data: Float32Array,
  shape: readonly number[],
  stored: readonly number[],
): Float32Array {
  if (sameShape(shape, stored)) return data;
  const width = shape.at(-1)!, storedWidth = stored.at(-1)!;
  const out = new Float32Array(stored.reduce((a, b) => a * b, 1));
  for (let row = 0; row * width < data.length; row++) {
    out.set(data.subarray(row * width, (row + 1) * width), row * storedWidth);
  }
  return out;
}

/** The reverse of {@linkcode padRows}. */
export function cutRows(
  data: Float32Array<ArrayBuffer>,
  shape: readonly number[],
  stored: readonly number[],
): Float32Array<ArrayBuffer> {
  if (sameShape(shape, stored)) return data;
  const width = shape.at(-1)!, storedWidth = stored.at(-1)!;
  const out = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let row = 0; row * width < out.length; row++) {
    out.set(data.subarray(row * storedWidth, row * storedWidth + width), row * width);
  }
  return out;
}
