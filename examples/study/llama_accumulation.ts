/**
 * Gradient accumulation for a Llama: the built-in model's gradients of eight samples, as one batch of
 * eight, as eight micro-batches, and as eight micro-batches in one packed row.
 *
 *     ./lorikeet deno run --allow-read --allow-env --allow-sys examples/study/llama_accumulation.ts
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { openBuiltin, readTrained } from "./builtin_run.ts";
import { deviation, table } from "./numbers.ts";

/** A way to take the step, compared with one batch of eight. */
export interface Accumulation {
  name: string;
  loss: number;
  /** Largest ‖g − g₈‖ / ‖g₈‖ of any trained tensor. */
  deviation: number;
}

const WAYS = [
  { name: "one batch of 8", settings: { batch_size: 8, gradient_accumulation_steps: 1 } },
  { name: "8 micro-batches of 1", settings: { gradient_accumulation_steps: 8 } },
  {
    name: "8 micro-batches, packed",
    settings: { gradient_accumulation_steps: 8, packing: true },
  },
];

/** Rounding of f32 sums in another order stays below this. */
export const ROUNDING = 1e-5;

/** Losses and gradients of all ways, all weights trained, in fp32. */
export async function accumulations(gpu: Gpu): Promise<Accumulation[]> {
  const results: Accumulation[] = [];
  let batch: Awaited<ReturnType<typeof readTrained>> | undefined;
  for (const { name, settings } of WAYS) {
    const common = { lora: false, precision: "fp32", samples: 8 } as const;
    const run = await openBuiltin(gpu, { ...common, ...settings });
    const { loss } = await run.trainer.step(gpu, run.windows[0], {
      learningRate: 0,
      firstMicroBatch: 0,
    });
    const gradients = await readTrained(run, "grad");
    const expected = batch ??= gradients;
    const deviations = Array.from(
      gradients,
      ([name, { data }]) =>
        deviation(data, present(expected.get(name), `gradient of ${name}`).data),
    );
    results.push({ name, loss, deviation: Math.max(...deviations) });
  }
  return results;
}

/** What the study guide quotes. */
export function lines(results: readonly Accumulation[]): string[] {
  return table([
    ["", "loss", "gradients differ by"],
    ...results.map(({ name, loss, deviation }, i) => [
      name,
      loss.toFixed(3),
      i === 0 ? "" : deviation < ROUNDING ? `less than ${ROUNDING}` : deviation.toExponential(1),
    ]),
  ]);
}

if (import.meta.main) {
  const gpu = await openGpu();
  console.log(lines(await accumulations(gpu)).join("\n"));
  gpu.close();
}
