/**
 * What adapters make up for: the built-in model with its weights quantised, before and after training, and the adapters
 * that were trained beside quantised weights put beside the weights as they were.
 *
 *     ./lorikeet deno run --allow-read --allow-env --allow-sys examples/study/quantized_run.ts
 *
 * @module
 */
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { setParameter } from "../../model/checkpoint/load.ts";
import { meanNll } from "../../model/transformer/evaluate.ts";
import type { QuantizationSettings } from "../../model/transformer/quantization.ts";
import { type BuiltinRun, openBuiltin, readTrained, train } from "./builtin_run.ts";
import { grouped, table } from "./numbers.ts";

/** How the base is held. */
const QUANTIZATIONS: readonly QuantizationSettings["quantization"][] = ["none", "nf4"];
const EPOCHS = 3;

/** Losses of a run, each the mean of all its samples, in nats a token. */
export interface QuantizedRun {
  quantization: QuantizationSettings["quantization"];
  before: number;
  trained: number;
  /** With the adapter beside the weights before they were quantised. */
  moved: number;
}

const open = (gpu: Gpu, quantization: QuantizationSettings["quantization"]) =>
  openBuiltin(gpu, {
    precision: "fp32",
    quantization,
    packing: true,
    samples: 40,
    epochs: EPOCHS,
    learning_rate: 2e-3,
  });

/** The mean loss of the samples. */
async function loss({ gpu, trainer, windows }: BuiltinRun): Promise<number> {
  const samples = windows.slice(0, windows.length / EPOCHS).flat(2);
  return await meanNll(gpu, trainer.model, samples);
}

/** Trains beside each kind of weights. */
export async function quantizedRuns(gpu: Gpu): Promise<QuantizedRun[]> {
  const runs: QuantizedRun[] = [];
  for (const quantization of QUANTIZATIONS) {
    const run = await open(gpu, quantization), before = await loss(run);
    await train(run);
    const trained = await loss(run), adapters = await readTrained(run, "master");
    const plain = await open(gpu, "none");
    for (const parameter of plain.trainer.model.adapters) {
      const adapter = adapters.get(parameter.name);
      if (adapter === undefined) throw new Error(`${parameter.name} was not trained`);
      setParameter(gpu, parameter, Float32Array.from(adapter.data));
    }
    plain.trainer.model.parametersChanged();
    runs.push({ quantization, before, trained, moved: await loss(plain) });
  }
  return runs;
}

/** What the study guide quotes. */
export function lines(runs: readonly QuantizedRun[]): string[] {
  return table([
    ["loss a token", "before training", "trained", "the adapter beside unquantised weights"],
    ...runs.map(({ quantization, ...losses }) => [
      quantization,
      ...[losses.before, losses.trained, losses.moved].map((nats) => grouped(nats, 2)),
    ]),
  ]);
}

if (import.meta.main) {
  const gpu = await openGpu();
  console.log(lines(await quantizedRuns(gpu)).join("\n"));
  gpu.close();
}
