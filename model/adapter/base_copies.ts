/**
 * Copies of the base model's weights that PEFT stores beside an adapter of an embedding or an output projection.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { Adapter } from "./adapter_folder.ts";
import { toFloat32 } from "../formats/half.ts";
import { brief } from "../files/json_file.ts";
import { bytesPerElement, type WeightSource } from "../formats/weights.ts";
import { type AdapterPlan, EMBEDDING, OUTPUT } from "./plan.ts";
import { copiedWeight } from "./tensors.ts";

/**
 * Refuses an adapter that stores weights of its base which are not the model's. Where such an adapter is run, they
 * are used; but a run that trains it would save neither them nor where they came from.
 *
 * @throws {UserError} that names the tensor.
 */
export async function refuseOtherBase(
  { tensors }: Adapter,
  { replaced, biases }: AdapterPlan,
  { weights, folder }: { weights?: WeightSource; folder: string },
): Promise<void> {
  for (const [name, { data }] of tensors) {
    const weight = copiedWeight(name);
    if (weight === undefined || replaced.includes(weight) || biases.includes(weight)) continue;
    // Where both embeddings are tied, the copy of one is that of the other.
    const tied = weights?.config.tie_word_embeddings && weight === `${OUTPUT}.weight`;
    if (tied && replaced.includes(`${EMBEDDING}.weight`)) continue;
    if (weights !== undefined && nearlySame(data, await valuesOf(weights, weight))) continue;
    throw new UserError(
      `${folder}: adapter tensor ${brief(name)} differs from the model's ${weight}, ` +
        "expected the model that the adapter was trained with",
    );
  }
}

/** A weight's numbers, as float32. */
async function valuesOf(weights: WeightSource, name: string): Promise<Float32Array> {
  const tied = weights.config.tie_word_embeddings && name === `${OUTPUT}.weight`;
  const own = tied ? `${EMBEDDING}.weight` : name;
  const { dtype, bytes } = weights.info(own), target = new Uint8Array(bytes);
  await weights.read(own, 0, target);
  return dtype === "F32"
    ? new Float32Array(target.buffer, 0, bytes / bytesPerElement(dtype))
    : toFloat32(target, dtype);
}

/** Whether numbers are the same, or as near as half precision holds them. */
function nearlySame(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length &&
    a.every((value, i) => value === b[i] || Math.abs(value - b[i]) <= Math.abs(b[i]) / 128);
}
