/**
 * A model in a GGUF file, or in several, read as if it were a Hugging Face folder: with its names, its order of rows, and
 * quantised tensors as f32 or as kernels hold them.
 *
 * @module
 */

import { UserError } from "../../../kernels/errors.ts";
import { weightShapes, withLayers } from "../../families/config.ts";
import { JoinedMatrix, Scratch } from "../joined.ts";
import { brief } from "../../files/json_file.ts";
import {
  bytesPerElement,
  sameShape,
  type StoredWeight,
  type WeightSource,
  weightSource,
} from "../weights.ts";
import { toFloat32 } from "../half.ts";
import { ggufConfig } from "./config.ts";
import type { TensorInfo } from "./header.ts";
import { type GgufPlace, ggufPlaces, isExpected } from "./names.ts";
import { keptPlanes } from "./planes.ts";
import { type GgufModel, openGgufModel } from "./split.ts";
import { readDtype, TensorValues } from "./tensor_values.ts";

/** Refuses tensors that are no part of the model. */
function checkNames({ tensors }: GgufModel, known: Iterable<string>): void {
  const names = new Set(known);
  for (const [name, { file }] of tensors) {
    if (names.has(name) || isExpected(name)) continue;
    throw new UserError(
      `${file.path}: tensor ${brief(name)} is no part of a model as the metadata describe it`,
    );
  }
}

/** A norm whose numbers are more in the file by an offset, as F32. */
function shiftedVector(place: TensorInfo, offset: number, scratch: Scratch): StoredWeight {
  const dtype = readDtype(place.type), [size] = place.shape;
  let shifted: Promise<Uint8Array> | undefined;
  const read = async (): Promise<Uint8Array> => {
    const bytes = new Uint8Array(size * bytesPerElement(dtype));
    await new TensorValues(place, scratch).read(0, bytes);
    const values = dtype === "F32" ? new Float32Array(bytes.buffer) : toFloat32(bytes, dtype);
    return new Uint8Array(values.map((value) => value - offset).buffer);
  };
  return {
    info: { dtype: "F32", shape: [size], bytes: 4 * size, stored: "F32" },
    async read(begin, target) {
      target.set((await (shifted ??= read())).subarray(begin, begin + target.length));
    },
  };
}

/** Finds a weight, checked against its shape. */
function findWeight(
  { tensors, metadata: { path } }: GgufModel,
  { gguf, permuted, offset }: GgufPlace,
  { shape, headDim, scratch }: { shape: readonly number[]; headDim: number; scratch: Scratch },
): StoredWeight {
  const place = tensors.get(gguf);
  if (place === undefined) throw new UserError(`${path}: tensor ${brief(gguf)} is missing`);
  if (!sameShape(place.shape, shape)) {
    throw new UserError(
      `${place.file.path}: tensor ${brief(gguf)} has shape ${
        brief(place.shape)
      }, but the metadata need ` +
        brief(shape),
    );
  }
  if (offset !== 0) return shiftedVector(place, offset, scratch);
  const [rows, columns = 1] = shape, values = new TensorValues(place, scratch);
  const dtype = readDtype(place.type);
  const layout = {
    rows,
    rowBytes: columns * bytesPerElement(dtype),
    join: "rows",
    headRows: permuted ? headDim : 0,
  } as const;
  const file = { read: (at: number, target: Uint8Array) => values.read(at, target) };
  const matrix = new JoinedMatrix([{ file, position: 0 }], layout, scratch);
  return {
    info: { dtype, shape: [...shape], bytes: matrix.bytes, stored: place.type.name },
    read: (begin, target) => matrix.read(begin, target),
    quantized: shape.length === 2 ? keptPlanes(place, layout.headRows, scratch) : undefined,
  };
}

/**
 * Opens a model. Only metadata and descriptions of tensors are read here; every weight's presence, shape and type are
 * checked, and tensors that are no part of the model are refused.
 *
 * @param path A GGUF file, or any of those that a model is split into.
 * @param options `layers`: the model cut after its first blocks.
 * @throws UserError that names the file, and the key or the tensor.
 */
export function openGguf(path: string, options: { layers?: number } = {}): WeightSource {
  const model = openGgufModel(path);
  const weights = new Map<string, StoredWeight>();
  try {
    const whole = ggufConfig(model), { layers } = options;
    const placeOf = ggufPlaces(whole);
    checkNames(model, Array.from(weightShapes(whole).keys(), (name) => placeOf(name).gguf));
    const config = layers === undefined ? whole : withLayers(whole, layers, path);
    const scratch = new Scratch();
    for (const [name, shape] of weightShapes(config)) {
      const of = { shape, headDim: config.head_dim, scratch };
      weights.set(name, findWeight(model, placeOf(name), of));
    }
    return weightSource(path, { config, weights, close: () => model.close() });
  } catch (error) {
    model.close();
    throw error;
  }
}
