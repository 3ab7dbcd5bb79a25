/**
 * Weights that are no finite numbers where the model computes: in their file already, or beyond what f16 holds.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { clear } from "../../kernels/ops/elements/bytes.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import {
  countFaults,
  DAMAGED_FILE,
  describeNotFinite,
  F16_LARGEST,
  type Faults,
} from "../formats/finite.ts";
import { toFloat32 } from "../formats/half.ts";
import type { WeightSource } from "../formats/weights.ts";
import type { Parameter } from "../transformer/parameters.ts";

/** Bytes of a file looked at together. */
const CHUNK_BYTES = 1 << 24;

/** Flags, for {@linkcode checkFlags}, the parameters whose values in the compute dtype are not all finite. */
export function flagWeights(gpu: Gpu, parameters: readonly Parameter[], flags: Tensor): void {
  clear(gpu, flags);
  parameters.forEach(({ operand: { kind, tensors } }, slot) => {
    kind.flagNotFinite(gpu, tensors, { flags, slot });
  });
}

/** Names of the parameters whose values in the compute dtype are not all finite. */
export async function notFiniteNames(
  gpu: Gpu,
  parameters: readonly Parameter[],
): Promise<string[]> {
  if (parameters.length === 0) return [];
  const flags = gpu.memory.tensor("workspace", "flags", "u32", [parameters.length]);
  try {
    flagWeights(gpu, parameters, flags);
    const flagged = new Uint32Array(await gpu.read(flags));
    return parameters.filter((_, i) => flagged[i] !== 0).map(({ name }) => name);
  } finally {
    gpu.free(flags);
  }
}

/**
 * Refuses a model of which something was flagged.
 *
 * @param flags One of each parameter, in order.
 * @throws {UserError} that names the first tensor, what is wrong with it and what to do.
 */
export async function checkFlags(
  flags: Uint32Array,
  parameters: readonly Parameter[],
  { name: model, weights }: { name: string; weights: WeightSource },
): Promise<void> {
  const faulty = parameters.filter((_, i) => flags[i] !== 0);
  if (faulty.length === 0) return;
  const [{ name }] = faulty;
  const faults = await inspect(weights, name);
  const others = faulty.length === 1
    ? ""
    : `, and so ${faulty.length === 2 ? "has 1 other tensor" : `have ${faulty.length - 1} others`}`;
  const notFinite = describeNotFinite(faults);
  if (notFinite !== undefined) {
    throw new UserError(
      `model "${model}": tensor "${name}" has ${notFinite}${others}; expected finite numbers: ` +
        DAMAGED_FILE,
    );
  }
  const has = faults.beyondF16 === 1 ? "a value" : `${faults.beyondF16} values`;
  const largest = Number(faults.largest.toPrecision(6));
  throw new UserError(
    `model "${model}": tensor "${name}" has ${has} beyond what f16 holds${others} (the largest is ` +
      `${largest}, f16 holds ${F16_LARGEST}); expected --precision fp32`,
  );
}

/** What is wrong with a tensor in its file. */
async function inspect(weights: WeightSource, name: string): Promise<Faults> {
  const { dtype, bytes } = weights.info(name), chunk = new Uint8Array(Math.min(bytes, CHUNK_BYTES));
  const faults = countFaults(new Float32Array());
  for (let begin = 0; begin < bytes; begin += chunk.length) {
    const part = chunk.subarray(0, Math.min(chunk.length, bytes - begin));
    await weights.read(name, begin, part);
    countFaults(toFloat32(part, dtype), faults);
  }
  return faults;
}
