/**
 * Why mixed precision scales the loss: the gradients of the built-in model after it has learnt four
 * samples, in fp32 and in mixed precision with and without a loss scale.
 *
 *     ./lorikeet deno run --allow-read --allow-env --allow-sys examples/study/loss_scale.ts
 *
 * Source: Micikevicius et al., "Mixed Precision Training", 2018, section 3.2.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { setParameter } from "../../model/checkpoint/load.ts";
import type { PartialTrainConfig } from "../../train/config/config.ts";
import { type BuiltinRun, openBuiltin, readTrained, train } from "./builtin_run.ts";
import { half } from "./half_updates.ts";
import { deviation, lessThan, moreThan, sum, table } from "./numbers.ts";

/** The loss scale a run starts with, and a run without one. */
export const SCALES = [1, 65536];

/** What became of the gradients of a run with a loss scale. */
export interface ScaledGradients {
  scale: number;
  /** Share of the elements of fp32's gradient that f16 makes zero once they are scaled. */
  lost: number;
  /** ‖g − g₃₂‖ / ‖g₃₂‖ over everything trained, g being mixed precision's gradient. */
  deviation: number;
}

/** Four samples in one batch, all weights trained. */
const COMMON: PartialTrainConfig = {
  lora: false,
  samples: 4,
  batch_size: 4,
  gradient_accumulation_steps: 1,
};

/** Everything one after the other. */
function joined(tensors: Map<string, { data: Float32Array }>): Float64Array {
  const values = [...tensors.values()];
  const all = new Float64Array(sum(values.length, (i) => values[i].data.length));
  let at = 0;
  for (const { data } of values) {
    all.set(data, at);
    at += data.length;
  }
  return all;
}

/** Trains in fp32 until the loss is small, then takes the gradient of one more step in each way. */
export async function scaledGradients(
  gpu: Gpu,
): Promise<{ loss: number; runs: ScaledGradients[] }> {
  const first = await openBuiltin(gpu, {
    ...COMMON,
    precision: "fp32",
    epochs: 20,
    learning_rate: 2e-3,
  });
  await train(first);
  const weights = await readTrained(first, "master");
  const gradient = async (run: BuiltinRun) => {
    const none = { learningRate: 0, firstMicroBatch: 0 };
    const { loss, lossScale } = await run.trainer.step(gpu, run.windows[0], none);
    return { loss, values: joined(await readTrained(run, "grad")).map((g) => g / lossScale) };
  };
  const exact = await gradient(first);
  const nonZero = exact.values.filter((g) => g !== 0);
  const runs: ScaledGradients[] = [];
  for (const scale of SCALES) {
    const settings = { precision: "mixed", initial_loss_scale: scale } as const;
    const run = await openBuiltin(gpu, { ...COMMON, ...settings });
    for (const parameter of run.trainer.model.trained) {
      const { data } = present(weights.get(parameter.name), `weight ${parameter.name}`);
      setParameter(gpu, parameter, data);
    }
    const { values } = await gradient(run);
    runs.push({
      scale,
      lost: nonZero.filter((g) => half(g * scale) === 0).length / nonZero.length,
      deviation: deviation(values, exact.values),
    });
  }
  return { loss: exact.loss, runs };
}

/** What f16 makes of one small gradient; the study guide quotes it. */
export function roundTripLines(): string[] {
  const gradient = 2e-8;
  return SCALES.map((scale) =>
    `${gradient} × ${scale} in f16, divided by ${scale}: ${
      (half(gradient * scale) / scale).toExponential(3)
    }`
  );
}

/** What the study guide quotes of the run. */
export function runLines(runs: readonly ScaledGradients[]): string[] {
  const [without, scaled] = runs;
  return table([
    ["loss scale", "gradients that f16 makes zero", "error of the run's gradient"],
    [String(without.scale), moreThan(without.lost), moreThan(without.deviation)],
    [String(scaled.scale), lessThan(scaled.lost), lessThan(scaled.deviation)],
  ]);
}

if (import.meta.main) {
  const gpu = await openGpu();
  const { loss, runs } = await scaledGradients(gpu);
  console.log([...roundTripLines(), "", ...runLines(runs)].join("\n"));
  console.log(`\nloss ${loss.toExponential(1)};`, runs);
  gpu.close();
}
