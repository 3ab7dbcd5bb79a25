/** Weights that are no finite numbers in the dtype that is computed in: refused by name, with what to do. */
import assert from "node:assert/strict";
import { UsageError, UserError } from "../../../kernels/errors.ts";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { weightShapes } from "../../../model/families/config.ts";
import { fromFloat32 } from "../../../model/formats/half.ts";
import {
  bytesPerElement,
  type FileDtype,
  type WeightSource,
} from "../../../model/formats/weights.ts";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { numericsOf, scoreMode, trainMode } from "../../../model/transformer/modes.ts";
import { Llama, type LlamaOptions } from "../../../model/transformer/llama.ts";
import { loadWeights } from "../../../model/checkpoint/load.ts";
import { weightKind } from "../../../kernels/ops/weights/kinds.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { SMALL_CONFIG } from "../../train/runs.ts";

const [GATE, NORM, EMBEDDING] = [
  "model.layers.1.mlp.gate_proj.weight",
  "model.norm.weight",
  "model.embed_tokens.weight",
];

/** A model's weights as a file of this dtype has them: ones, but for some values at the ends of some tensors. */
function weightsWith(special: Record<string, number[]>, dtype: FileDtype): WeightSource {
  const shapes = weightShapes(SMALL_CONFIG);
  const size = (name: string) => shapes.get(name)!.reduce((a, b) => a * b);
  return {
    config: SMALL_CONFIG,
    info: (name) => ({
      dtype,
      shape: shapes.get(name)!,
      bytes: size(name) * bytesPerElement(dtype),
    }),
    read(name, begin, target) {
      const values = new Float32Array(size(name)).fill(1), last = special[name] ?? [];
      values.set(last, values.length - last.length);
      const bytes = new Uint8Array(size(name) * bytesPerElement(dtype));
      fromFloat32(values, dtype, bytes);
      target.set(bytes.subarray(begin, begin + target.length));
      return Promise.resolve();
    },
    quantized: () => undefined,
    close() {},
  };
}

async function load(
  gpu: Gpu,
  special: Record<string, number[]>,
  dtype: FileDtype,
  options: Pick<LlamaOptions, "numerics" | "mode" | "frozen">,
): Promise<void> {
  const model = new Llama(gpu.memory, { config: SMALL_CONFIG, ...options });
  const source = { name: "M", config: SMALL_CONFIG, weights: weightsWith(special, dtype) };
  try {
    await loadWeights(gpu, model, source, { seed: 0, chunkBytes: 512 });
  } finally {
    for (const { operand } of model.weights) gpu.free(operand.tensors[0]);
  }
}

const SIZES = { maxTokens: 4, maxTargets: 4 };
const HALF = numericsOf({ precision: "mixed", exact_products: false });
const MIXED = { numerics: HALF, mode: scoreMode(SIZES) };
const FULL = {
  numerics: HALF,
  mode: trainMode({ ...SIZES, trained: "weights", checkpointing: "none" }),
};
const FP32 = { numerics: EXACT, mode: scoreMode(SIZES) };

const refused = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof UserError, String(error));
  assert.ok(!(error instanceof UsageError));
  assert.match(error.message, pattern);
  return true;
};

gpuTest(
  "weights beyond f16 are refused in mixed precision, with count and largest",
  async (gpu) => {
    const special = { [GATE]: [-1e5, 7e4, 60000] };
    for (const dtype of ["F32", "BF16"] as const) {
      for (const options of [MIXED, FULL]) {
        await assert.rejects(
          load(gpu, special, dtype, options),
          refused(
            /^model "M": tensor "model\.layers\.1\.mlp\.gate_proj\.weight" has 2 values beyond what f16 holds \(the largest is (100000|99840), f16 holds 65504\); expected --precision fp32$/,
          ),
        );
      }
      await load(gpu, special, dtype, FP32);
    }
    await load(gpu, { [GATE]: [65519.99, -65504, 1e-30] }, "F32", MIXED);
    await assert.rejects(
      load(gpu, { [NORM]: [65520] }, "F32", MIXED),
      refused(/tensor "model\.norm\.weight" has a value beyond what f16 holds \(the largest/),
    );
  },
);

gpuTest("weights that are NaN or infinite are refused in any precision and dtype", async (gpu) => {
  for (const dtype of ["F32", "F16", "BF16"] as const) {
    for (const options of [MIXED, FULL, FP32]) {
      await assert.rejects(
        load(gpu, { [EMBEDDING]: [NaN, 1, NaN, -Infinity] }, dtype, options),
        refused(
          /^model "M": tensor "model\.embed_tokens\.weight" has 2 values that are NaN and 1 that is infinite; expected finite numbers/,
        ),
      );
    }
  }
  await assert.rejects(
    load(gpu, { [NORM]: [NaN], [GATE]: [Infinity], [EMBEDDING]: [1e5] }, "F32", FP32),
    refused(/has 1 value that is infinite, and so has 1 other tensor; expected/),
  );
});

gpuTest(
  "weights that are NaN or infinite are refused where they are quantised, too",
  async (gpu) => {
    for (const kind of ["int8", "nf4", "nf4_f32"]) {
      const frozen = (name: string) => name === GATE ? weightKind(kind) : undefined;
      for (const dtype of ["F32", "F16", "BF16"] as const) {
        await assert.rejects(
          load(gpu, { [GATE]: [NaN, NaN, -Infinity] }, dtype, { ...MIXED, frozen }),
          refused(
            /tensor "model\.layers\.1\.mlp\.gate_proj\.weight" has 2 values that are NaN and 1 that is infinite; expected/,
          ),
        );
        await load(gpu, { [GATE]: [0, -3, 5] }, dtype, { ...MIXED, frozen });
      }
    }
  },
);
