/**
 * Weights and adapters on their way to the GPU: from files in bounded pieces, or made from a seed.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { cast } from "../../kernels/ops/elements/cast.ts";
import { clear } from "../../kernels/ops/elements/bytes.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import {
  fillConstant,
  fillNormal,
  fillUniform,
  normalNumbers,
} from "../../kernels/ops/elements/random.ts";
import { greatestCommonDivisor, type Tensor } from "../../kernels/gpu/tensor.ts";
import {
  encoderOf,
  encodingWork,
  type WeightOperand,
  writeFileValues,
} from "../../kernels/ops/weights/operand.ts";
import { noteLine } from "../../kernels/terminal.ts";
import { EMBEDDING, OUTPUT } from "../adapter/plan.ts";
import { copiedWeight } from "../adapter/tensors.ts";
import type { Adapter } from "../adapter/adapter_folder.ts";
import { checkFlags, flagWeights } from "./finite_weights.ts";
import { describeConversion } from "./stored_types.ts";
import { bytesPerElement, sameShape, type WeightSource } from "../formats/weights.ts";
import { destination, fileBytes, type FilePiece, piecesOf, readAhead } from "./pieces.ts";
import { PIECE_BYTES } from "../transformer/capacity.ts";
import type { Llama } from "../transformer/llama.ts";
import { type Parameter, parameterCount } from "../transformer/parameters.ts";
import type { ModelSource } from "./source.ts";

/** Standard deviation of random weights, as Llama is initialised. */
const INITIAL_STD = 0.02;
/** Pieces begin at multiples of so many elements, where a binding may. */
const PIECE_UNIT = 512;
/** Uploads wait in host memory until the GPU has taken them. The queue is waited for once in so many bytes. */
const QUEUED_BYTES = 1 << 27;
/** Small tensors are sent together, so many bytes or more at once: a submission costs some 0.1 ms. */
const SENT_BYTES = 1 << 20;
/** Random subsequences of weights and adapters start apart. */
const ADAPTER_SUBSEQUENCES = 1 << 20;

/** The weights of a model with tied embeddings, with the output projection under a name of its own. */
function untied(weights: WeightSource): WeightSource {
  const named = (name: string) => name === `${OUTPUT}.weight` ? `${EMBEDDING}.weight` : name;
  return {
    config: weights.config,
    info: (name) => weights.info(named(name)),
    read: (name, begin, target) => weights.read(named(name), begin, target),
    quantized: (name) => weights.quantized(named(name)),
    close: () => weights.close(),
  };
}

/**
 * Fills the model's weights from their source, which is closed then, or from `seed` where it has none.
 *
 * Several pieces of the files are read at once into memory of {@linkcode Gpu.uploadMemories}, from where `gpu.write` takes
 * them in order: straight into the tensor where the file has its dtype, else through a cast.
 *
 * @param chunkBytes Bytes sent at a time, a multiple of 512: parts begin where a binding may.
 * @throws UserError where a file can't be read, weights are no finite numbers in the dtype that is computed in, or
 *   the GPU fails.
 */
export async function loadWeights(
  gpu: Gpu,
  model: Llama,
  source: ModelSource,
  { seed, progress, chunkBytes = PIECE_BYTES }: {
    seed: number;
    progress?: (done: number, total: number) => void;
    chunkBytes?: number;
  },
): Promise<void> {
  const tied = source.config.tie_word_embeddings;
  if (source.weights === undefined) {
    model.weights.forEach((parameter, subsequence) => {
      const first = tied && parameter.name === `${OUTPUT}.weight` ? 0 : subsequence;
      const norm = 1 - model.spec.norm.offset;
      randomise(gpu, parameter, { seed, subsequence: first, norm });
    });
    await gpu.finish();
    return;
  }
  const weights = tied ? untied(source.weights) : source.weights;
  const line = describeConversion(source.name, weights, model.weights);
  if (line !== undefined) noteLine(line);
  const sizes = model.weights.map((parameter) => fileBytes(weights, parameter));
  const total = sizes.reduce((a, b) => a + b, 0);
  const pieces = piecesOf(model.weights, weights, chunkBytes);
  const pieceBytes = Math.min(chunkBytes, Math.max(...sizes));
  const room = Math.max(2 * chunkBytes / 4, model.weights.length);
  const words = gpu.memory.tensor("workspace", "upload", "u32", [room]);
  const work = encodingWork(gpu, model.weights.map(destination));
  const halves = [0, chunkBytes / 4].map((first) => words.view([chunkBytes / 4], first));
  using stack = new DisposableStack();
  const memories = gpu.uploadMemories(pieceBytes).map((memory) => stack.use(memory));
  /** A promise for each time that the queue was asked, in order. */
  const pending: Promise<void>[] = [];
  let done = 0, queued = 0, unsent = 0;
  try {
    for await (const { piece, bytes } of readAhead(pieces, memories)) {
      upload(gpu, piece, bytes, { words: halves[0], work });
      halves.reverse();
      done += piece.bytes;
      queued += piece.bytes;
      unsent += piece.bytes;
      if (unsent >= SENT_BYTES) {
        gpu.send();
        unsent = 0;
      }
      if (queued >= QUEUED_BYTES) {
        const finished = gpu.finish();
        finished.catch(() => {}); // heard when its turn comes
        pending.push(finished);
        queued = 0;
        // An older one: while it is awaited, the GPU has newer work.
        if (pending.length > 2) await pending.shift();
      }
      progress?.(done, total);
    }
    const flags = words.view([model.weights.length]);
    flagWeights(gpu, model.weights, flags);
    await checkFlags(new Uint32Array(await gpu.read(flags)), model.weights, { ...source, weights });
  } finally {
    weights.close();
    gpu.free(words);
    if (work !== undefined) gpu.free(work);
  }
}

/** Sends a piece to where the parameter's values are, or to its masters where it is trained. */
function upload(
  gpu: Gpu,
  { parameter, of, first, last }: FilePiece,
  bytes: Uint8Array<ArrayBuffer>,
  { words, work }: { words: Tensor; work?: Tensor },
): void {
  if ("tensor" in of) return gpu.write(of.tensor, bytes, first);
  const weight = destination(parameter), { values } = weight, from = of.values;
  const count = bytes.length / bytesPerElement(from);
  writeFileValues(gpu, weight, bytes, { words, from, first, count, values, work });
  if (last) refreshValue(gpu, parameter);
}

/** The first rows of a padded tensor: those that the file has. */
function unpadded({ shape }: Parameter, tensor: Tensor): Tensor {
  return tensor.view([shape[0], ...tensor.shape.slice(1)]);
}

/** Makes the compute-dtype value agree with the f32 master. */
export function refreshValue(gpu: Gpu, parameter: Parameter): void {
  const { trained } = parameter;
  if (trained === undefined || trained.master === parameter.value) return;
  cast(gpu, { x: trained.master, y: parameter.value });
}

/** Random weights; `norm`: what those of norms are. */
function randomise(
  gpu: Gpu,
  parameter: Parameter,
  { seed, subsequence, norm }: { seed: number; subsequence: number; norm: number },
): void {
  const weight = destination(parameter);
  if (weight.kind.element === undefined) {
    // The same numbers as dense ones would have.
    const count = parameterCount(parameter);
    return inPieces(
      gpu,
      weight,
      count,
      (y, from) => fillNormal(gpu, { y, mean: 0, std: INITIAL_STD, seed, subsequence, from }),
    );
  }
  const y = unpadded(parameter, weight.tensor);
  if (parameter.name.endsWith(".bias")) fillConstant(gpu, { y, value: 0 });
  else if (parameter.shape.length === 1) fillConstant(gpu, { y, value: norm });
  else fillNormal(gpu, { y, mean: 0, std: INITIAL_STD, seed, subsequence });
  refreshValue(gpu, parameter);
}

/**
 * Fresh adapters: B zero, A from U(−1/√in, 1/√in) as PEFT's Kaiming initialisation gives it, or from
 * N(0, 1/r²) with `gaussian`, also as in PEFT. Of the embedding A is zero and B from N(0, 1). DoRA's magnitudes are
 * the lengths of the weights' rows, which are to be there already.
 */
export function initializeAdapters(
  gpu: Gpu,
  model: Llama,
  { init, seed }: { init: "kaiming" | "gaussian"; seed: number },
): void {
  model.adapters.forEach((parameter, index) => {
    const target = parameter.trained?.master ?? parameter.value;
    clear(gpu, target);
    const subsequence = ADAPTER_SUBSEQUENCES + index;
    if (/lora_embedding_B$/.test(parameter.name)) {
      // On the host, since the GPU would also fill the padding of its rows.
      const numbers = normalNumbers(parameterCount(parameter), seed, subsequence);
      setParameter(gpu, parameter, Float32Array.from(numbers));
    } else if (/lora_A/.test(parameter.name)) {
      const y = unpadded(parameter, target);
      const [rank, width] = parameter.shape;
      const bound = 1 / Math.sqrt(width);
      if (init === "kaiming") fillUniform(gpu, { y, low: -bound, high: bound, seed, subsequence });
      else fillNormal(gpu, { y, mean: 0, std: 1 / rank, seed, subsequence });
    }
    refreshValue(gpu, parameter);
  });
  model.initializeMagnitudes(gpu);
  model.parametersChanged();
}

/**
 * Fills the model's adapters with those of a PEFT folder, and the weights that it has copies of with these.
 *
 * @throws UserError where a weight is only taken as a file holds it.
 */
export function loadAdapter(gpu: Gpu, model: Llama, { tensors }: Adapter): void {
  for (const parameter of model.adapters) {
    const tensor = tensors.get(parameter.name);
    if (tensor === undefined) throw new Error(`the adapter has no ${parameter.name}`);
    setParameter(gpu, parameter, tensor.data);
  }
  const weights = new Map(model.weights.map((parameter) => [parameter.name, parameter]));
  const tied = weights.get(`${EMBEDDING}.weight`);
  if (tied !== undefined && !weights.has(`${OUTPUT}.weight`)) weights.set(`${OUTPUT}.weight`, tied);
  for (const [name, { data }] of tensors) {
    const parameter = weights.get(copiedWeight(name) ?? "");
    if (parameter === undefined) continue;
    const { kind } = destination(parameter);
    if (kind.encoder === undefined) {
      throw new UserError(
        `the adapter has a copy of ${parameter.name}, which the model's file holds as ${kind.name} and values ` +
          "can't become; expected --quantization int8 or nf4, or an adapter without the copy",
      );
    }
    setParameter(gpu, parameter, data);
  }
  model.parametersChanged();
}

/** Sets a parameter (its master, where it is trained) to values of its file shape. */
export function setParameter(gpu: Gpu, parameter: Parameter, data: Float32Array): void {
  const weight = destination(parameter);
  const padded = padRows(data, parameter.shape, weight.shape);
  if (weight.kind.element === "f32") {
    gpu.write(weight.tensor, padded);
    refreshValue(gpu, parameter);
    return;
  }
  inPieces(gpu, weight, padded.length, (y, from) => {
    gpu.write(y, padded.subarray(from, from + y.size));
  });
}

/**
 * Encodes `count` values that `fill` makes as f32, each time from value `from` of the weight on. In pieces, as weights
 * come from files: memory for those is planned.
 */
function inPieces(
  gpu: Gpu,
  weight: WeightOperand,
  count: number,
  fill: (y: Tensor, from: number) => void,
): void {
  const { tensors, columns, values } = weight, encoder = encoderOf(weight);
  const own = encoder.unit(columns),
    unit = PIECE_UNIT * own / greatestCommonDivisor(PIECE_UNIT, own);
  const most = Math.floor(Math.min(PIECE_BYTES, gpu.maxBinding) / (4 * unit)) * unit;
  const staging = gpu.memory.tensor("workspace", "upload", "f32", [Math.min(most, count)]);
  const work = encodingWork(gpu, [weight]);
  for (let first = 0; first < count; first += staging.size) {
    const piece = staging.view([Math.min(staging.size, count - first)]);
    fill(piece, first);
    const words = piece.as("u32");
    encoder.encode(gpu, tensors, { words, from: "F32", first, count: piece.size, values, work });
  }
  gpu.free(staging);
  if (work !== undefined) gpu.free(work);
}

/** `[rows, columns]` in a zero-padded larger shape; `data` itself where there is no padding. */
export function padRows(
  data: Float32Array,
  shape: readonly number[],
  stored: readonly number[],
): Float32Array {
  if (sameShape(shape, stored)) return data;
  const width = shape[shape.length - 1], storedWidth = stored[stored.length - 1];
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
  const width = shape[shape.length - 1], storedWidth = stored[stored.length - 1];
  const out = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let row = 0; row * width < out.length; row++) {
    out.set(data.subarray(row * storedWidth, row * storedWidth + width), row * width);
  }
  return out;
}
