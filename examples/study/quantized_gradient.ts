/**
 * What a quantised weight does in forward and backward: the project's products read nf4 in both, and what they compute is
 * compared with products of the weights that the codes stand for, and of those that were quantised.
 *
 *     ./lorikeet deno run --allow-read --allow-env --allow-sys examples/study/quantized_gradient.ts
 *
 * @module
 */
import { Matrix } from "ml-matrix";
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { matmul } from "../../kernels/ops/matmul/matmul.ts";
import { weightKind } from "../../kernels/ops/weights/kinds.ts";
import { deviation, lessThan, table, uniform } from "./numbers.ts";
import { decoded, encoded, normalWeights } from "./quantization_error.ts";

/** Tokens, and the weight's sizes. */
const TOKENS = 16, OUT = 192, IN = 256;

/** A product and its relative distance from the same in float64. */
export interface ProductError {
  name: string;
  /** With the weights that the codes stand for, and with those before they were quantised. */
  ofCodes: number;
  ofWeights: number;
}

/** y = x·Wᵀ and dx = dy·W with W in nf4. */
export async function productErrors(gpu: Gpu): Promise<ProductError[]> {
  const weights = normalWeights(false, OUT, IN), kind = weightKind("nf4");
  const W = encoded(gpu, kind, weights, [OUT, IN]);
  const codes = await decoded(gpu, encoded(gpu, kind, weights, [OUT, IN]));
  const next = uniform(3), errors: ProductError[] = [];
  for (const [name, orientation] of [["y = x·Wᵀ", "nt"], ["dx = dy·W", "nn"]] as const) {
    const [width, depth] = orientation === "nt" ? [OUT, IN] : [IN, OUT];
    const given = Float32Array.from({ length: TOKENS * depth }, next);
    const a = gpu.memory.tensor("workspace", "a", "f32", [TOKENS, depth]);
    const c = gpu.memory.tensor("workspace", "c", "f32", [TOKENS, width]);
    gpu.write(a, given);
    matmul(gpu, { orientation, a, b: W, c, rows: TOKENS });
    const computed = await gpu.readF32(c);
    const product = (values: Float32Array) => {
      const w = Matrix.from1DArray(OUT, IN, values);
      return Matrix.from1DArray(TOKENS, depth, given)
        .mmul(orientation === "nt" ? w.transpose() : w).to1DArray();
    };
    errors.push({
      name,
      ofCodes: deviation(computed, product(codes)),
      ofWeights: deviation(computed, product(weights)),
    });
    for (const tensor of [a, c]) gpu.free(tensor);
  }
  for (const tensor of W.tensors) gpu.free(tensor);
  return errors;
}

/** What the study guide quotes. */
export function lines(errors: readonly ProductError[]): string[] {
  return table([
    ["with W in nf4", "from the codes' weights", "from the weights before"],
    ...errors.map(({ name, ofCodes, ofWeights }) => [
      name,
      lessThan(ofCodes),
      `${(100 * ofWeights).toFixed(1)} %`,
    ]),
  ]);
}

if (import.meta.main) {
  const gpu = await openGpu();
  console.log(lines(await productErrors(gpu)).join("\n"));
  gpu.close();
}
