/**
 * LoRA adapters as GGUF files, as llama.cpp reads them (src/llama-adapter.cpp): W' = W + (alpha/r)·B·A, with one alpha
 * for all modules.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { type AdapterPlan, EMBEDDING, OUTPUT } from "./plan.ts";
import { loraNames } from "./tensors.ts";
import { ggufFamily, type ModelConfig } from "../families/config.ts";
import { type Adapter, type AdapterTensor, checkAdapter } from "./adapter_folder.ts";
import { refuseFullDisk } from "../files/free_space.ts";
import { fromFloat32 } from "../formats/half.ts";
import { bytesPerElement, type FileDtype } from "../formats/weights.ts";
import { ggufPlaces } from "../formats/gguf/names.ts";
import { f32, type GgufMetadata, text } from "../formats/gguf/values.ts";
import {
  ggufBytes,
  ggufFileBytes,
  type GgufTensor,
  writeGguf,
} from "../formats/gguf/write_gguf.ts";
import { placeInHead } from "../formats/gguf/written_tensors.ts";

/** Refuses what is more than A and B. */
function refuseMore(plan: AdapterPlan, model: ModelConfig, what: string): void {
  const { config, replaced, biases, tokens, modules } = plan;
  const more: [is: boolean, what: string][] = [
    [config.use_dora, "use_dora is true"],
    [config.lora_bias, "lora_bias is true"],
    [replaced.length > 0, `modules_to_save has copies of ${replaced[0]}`],
    [biases.length > 0, `bias is "${config.bias}"`],
    [tokens.length > 0, "trainable_token_indices are given"],
    // There both are one matrix: an adapter of either would be multiplied with in the other's place.
    ...[EMBEDDING, OUTPUT].map((module): [is: boolean, what: string] => {
      const name = module.slice(module.lastIndexOf(".") + 1);
      return [
        model.tie_word_embeddings && modules.has(module),
        `${name} of a tied model is a target`,
      ];
    }),
  ];
  const found = more.find(([is]) => is);
  if (found === undefined) return;
  throw new UserError(
    `${what}: ${
      found[1]
    }, which an adapter in GGUF can't hold; expected plain LoRA, or merge instead`,
  );
}

/** The rows of B permuted in each head, as those of its weight are. */
function permuted(tensor: AdapterTensor, headDim: number): AdapterTensor {
  const { shape: [rows, columns], data } = tensor, moved = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim, to = row - inHead + placeInHead(inHead, headDim);
    moved.set(data.subarray(row * columns, (row + 1) * columns), to * columns);
  }
  return { ...tensor, data: moved };
}

/** `[r, vocabulary]` as `[vocabulary, r]`: llama.cpp looks rows up in it. */
function transposed(tensor: AdapterTensor): AdapterTensor {
  const { shape: [rows, columns], data } = tensor;
  const moved = data.map((_, i) => data[i % rows * columns + Math.floor(i / rows)]);
  return { ...tensor, shape: [columns, rows], data: moved };
}

/** A tensor's bytes, made when they are asked for. */
function* fileBytes(name: string, data: Float32Array, type: FileDtype): Generator<Uint8Array> {
  const bytes = new Uint8Array(data.length * bytesPerElement(type));
  if (fromFloat32(data, type, bytes) > 0) {
    throw new UserError(
      `tensor "${name}" has values beyond what ${type} holds; expected --dtype f32`,
    );
  }
  yield bytes;
}

/**
 * Writes an adapter.
 *
 * @param of The model that it is for, what both are called, and the dtype of all tensors; without one each keeps its own.
 * @returns How many tensors were written, and their bytes.
 * @throws UserError where the adapter is not the model's, or more than plain LoRA, or the file can't be written.
 */
export async function writeGgufAdapter(
  path: string,
  adapter: Adapter,
  of: { model: ModelConfig; name: string; what: string; dtype?: FileDtype },
): Promise<{ tensors: number; bytes: number }> {
  const { model, name, what, dtype } = of, plan = checkAdapter(adapter, model, what);
  refuseMore(plan, model, what);
  const placeOf = ggufPlaces(model);
  const alpha = plan.config.lora_alpha, tensors: GgufTensor[] = [];
  const add = (name: string, { shape, data, dtype: own = "F32" }: AdapterTensor) => {
    const type = dtype ?? own;
    tensors.push({ name, type, shape, data: fileBytes(name, data, type) });
  };
  const tensor = (name: string): AdapterTensor => {
    const found = adapter.tensors.get(name);
    if (found === undefined) throw new RangeError(`the adapter has no ${name}`);
    return found;
  };
  for (const [module, { rank, scale }] of plan.modules) {
    const names = loraNames(module), a = tensor(names.a), b = tensor(names.b);
    const { gguf, permuted: isPermuted } = placeOf(`${module}.weight`);
    // What a module's own scale differs by from the common one is in its B.
    const factor = scale * rank / alpha;
    const isCommon = Math.abs(factor - 1) < 1e-12;
    const scaled = isCommon ? b : { ...b, data: b.data.map((value) => value * factor) };
    const rows = isPermuted ? permuted(scaled, model.head_dim) : scaled;
    add(`${gguf}.lora_a`, module === EMBEDDING ? transposed(a) : a);
    add(`${gguf}.lora_b`, rows);
  }
  const metadata: GgufMetadata = new Map([
    ["general.architecture", text(ggufFamily(model).architecture)],
    ["general.type", text("adapter")],
    ["general.name", text(name)],
    ["adapter.type", text("lora")],
    ["adapter.lora.alpha", f32(alpha)],
  ]);
  refuseFullDisk(path, ggufFileBytes(metadata, tensors));
  await writeGguf(path, metadata, tensors);
  return {
    tensors: tensors.length,
    bytes: tensors.reduce((sum, tensor) => sum + ggufBytes(tensor), 0),
  };
}
