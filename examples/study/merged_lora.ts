/**
 * What an adapter costs in inference, and that it costs nothing once it is merged: launches and
 * arithmetic of one decoded token of the built-in model, by itself, with an adapter beside it, and with
 * the same adapter merged into its weights.
 *
 *     ./lorikeet deno run --allow-read --allow-env --allow-sys examples/study/merged_lora.ts
 *
 * @module
 */
import type { Memory } from "../../kernels/gpu/memory.ts";
import { loadOnto } from "../../model/session.ts";
import { Matrix } from "ml-matrix";
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { median } from "../../kernels/measure/timing.ts";
import { loraPlan } from "../../model/adapter/plan.ts";
import { Slots } from "../../model/engine/slots.ts";
import { EXACT } from "../../kernels/ops/numerics.ts";
import { generateMode } from "../../model/transformer/modes.ts";
import type { LinearModule } from "../../model/families/linear_modules.ts";
import { Llama } from "../../model/transformer/llama.ts";
import { cutRows, setParameter } from "../../model/checkpoint/load.ts";
import type { Parameter } from "../../model/transformer/parameters.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { type Launch, launchesOf } from "./launches.ts";
import { grouped, sum, table, uniform } from "./numbers.ts";

/** One way to run the model. */
export interface InferenceCost {
  name: string;
  /** Of one decoded token. */
  launches: Launch[];
  /** Logits after the prompt. */
  logits: Float32Array;
  /** Median time of a decoded token. */
  milliseconds: number;
}

const PROMPT = [1, 300, 400, 500, 600, 700], STEPS = 64;
const SIZES = {
  sequences: 1,
  context: PROMPT.length + STEPS + 2,
  promptTokens: PROMPT.length,
  cache: "f32",
} as const;
const LORA = { rank: 16, alpha: 32, targets: ["q_proj", "v_proj"] as LinearModule[] };

/** The built-in model in fp32, with room for an adapter or without. */
async function openLlama(gpu: Gpu, lora?: typeof LORA): Promise<Llama> {
  const source = openModel("builtin");
  const make = (memory: Memory) => ({
    model: new Llama(memory, {
      config: source.config,
      numerics: EXACT,
      lora: lora && loraPlan(source.config, lora),
      mode: generateMode(SIZES),
    }),
  });
  const adapter = lora && { init: "kaiming" } as const;
  const { model } = await loadOnto(gpu, source, make, { seed: 1, adapter, advice: "" });
  return model;
}

async function matrixOf(gpu: Gpu, { value, shape }: Parameter): Promise<Matrix> {
  return Matrix.from1DArray(
    shape[0],
    shape[1],
    cutRows(await gpu.readF32(value), shape, value.shape),
  );
}

/** Adds (α/r)·B·A to every adapted weight of a model that has no adapter. */
async function merge(gpu: Gpu, model: Llama, adapters: readonly Parameter[]): Promise<void> {
  const named = new Map(adapters.map((parameter) => [parameter.name, parameter]));
  for (const weight of model.weights) {
    const matrix = (letter: string) =>
      named.get(`base_model.model.${weight.name.replace("weight", `lora_${letter}.weight`)}`);
    const [a, b] = [matrix("A"), matrix("B")];
    if (a === undefined || b === undefined) continue;
    const product = (await matrixOf(gpu, b)).mmul(await matrixOf(gpu, a));
    const merged = (await matrixOf(gpu, weight)).add(product.mul(LORA.alpha / LORA.rank));
    setParameter(gpu, weight, Float32Array.from(merged.to1DArray()));
  }
}

async function measure(
  gpu: Gpu,
  name: string,
  { model, steps }: { model: Llama; steps: number },
): Promise<InferenceCost> {
  const slots = new Slots(gpu.memory, model, SIZES);
  let logits = model.gradScaler;
  slots.prefill(gpu, [{ slot: 0, ids: PROMPT, cached: 0 }], (given) => logits = given);
  const first = (await gpu.readF32(logits)).slice(0, model.config.vocab_size);
  gpu.write(slots.ids, Uint32Array.of(PROMPT[1]));
  const step = () => slots.step(gpu, 1, () => {});
  const launches = await launchesOf(gpu, step);
  const times: number[] = [];
  for (let i = 0; i < steps; i++) {
    await gpu.finish();
    const began = performance.now();
    step();
    await gpu.finish();
    times.push(performance.now() - began);
  }
  return { name, launches, logits: first, milliseconds: median(times) };
}

/** The model by itself, with an adapter, and with that adapter merged; each times so many tokens, `STEPS` at most. */
export async function inferenceCosts(gpu: Gpu, steps = STEPS): Promise<InferenceCost[]> {
  const base = await openLlama(gpu), adapted = await openLlama(gpu, LORA);
  // B would be zero, and the adapter without effect.
  const next = uniform(11);
  for (const parameter of adapted.adapters.filter(({ name }) => /lora_B/.test(name))) {
    const size = parameter.shape[0] * parameter.shape[1];
    setParameter(gpu, parameter, Float32Array.from({ length: size }, () => next() / 4));
  }
  const merged = await openLlama(gpu);
  await merge(gpu, merged, adapted.adapters);
  return [
    await measure(gpu, "without adapter", { model: base, steps }),
    await measure(gpu, "adapter beside the weights", { model: adapted, steps }),
    await measure(gpu, "adapter merged", { model: merged, steps }),
  ];
}

/** Launches, floating-point operations and bytes of one token. */
export function totals({ launches }: InferenceCost): { launches: number; flops: number } {
  return { launches: launches.length, flops: sum(launches.length, (i) => launches[i].flops) };
}

/** What the study guide quotes. */
export function lines(costs: readonly InferenceCost[]): string[] {
  const base = totals(costs[0]);
  return table([
    ["one decoded token", "more launches", "more arithmetic"],
    ...costs.map((cost) => {
      const { launches, flops } = totals(cost);
      const share = 100 * (flops / base.flops - 1);
      return [cost.name, grouped(launches - base.launches), `${share.toFixed(1)} %`];
    }),
  ]);
}

if (import.meta.main) {
  const gpu = await openGpu();
  const costs = await inferenceCosts(gpu);
  console.log(lines(costs).join("\n"));
  for (const { name, milliseconds } of costs) {
    console.log(`${name}: ${milliseconds.toFixed(2)} ms (${gpu.name})`);
  }
  gpu.close();
}
