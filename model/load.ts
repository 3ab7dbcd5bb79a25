/**
 * Weights and adapters on their way to the GPU: from files in bounded pieces, or made from a seed.
 *
 * @module
 */
import { cast, castBytes } from "../kernels/cast.ts";
import type { Gpu } from "../kernels/gpu.ts";
import { fillConstant, fillNormal, fillUniform } from "../kernels/random.ts";
import type { Tensor } from "../kernels/tensor.ts";
import type { Adapter } from "./adapter.ts";
import type { Llama } from "./llama.ts";
import type { Parameter } from "./parameters.ts";
import type { ModelSource } from "./source.ts";
import { bytesPerElement, sameShape } from "./weights.ts";

/** Standard deviation of random weights, as Llama is initialised. */
const INITIAL_STD = 0.02;
/** Bytes read from a file and sent to the GPU at a time. */
export const UPLOAD_BYTES = 1 << 24;
/** Random streams of weights and adapters start apart. */
const ADAPTER_STREAM = 1 << 20;

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
      castBytes(gpu, { words, from: dtype, y: target.view([count], element), count });
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

/** The first rows of a padded tensor: those that the file has. */
function unpadded({ shape }: Parameter, tensor: Tensor): Tensor {
  return tensor.view([shape[0], ...tensor.shape.slice(1)]);
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
