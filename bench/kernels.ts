/**
 * Kernels alone, at the sizes that training and decoding give them: first their results are checked, then
 * they are timed beside the roofs of the same run, copy bandwidth and the best matrix product.
 *
 * @module
 */
import { z } from "zod";
import { UserError } from "../kernels/errors.ts";
import { type Gpu, openGpu } from "../kernels/gpu/gpu.ts";
import { limitOf } from "../kernels/gpu/roofline.ts";
import { copySeconds, squareSide } from "../kernels/measure/roofs.ts";
import type { Dtype } from "../kernels/gpu/tensor.ts";
import { gpuSeconds } from "../kernels/measure/timing.ts";
import { noteLine, printJson, printLine } from "../kernels/terminal.ts";
import { command, parseFlags } from "../cli/command_line.ts";
import * as common from "../cli/common_settings.ts";
import { choice, flag, text, worded } from "../cli/settings.ts";
import { openModel } from "../model/checkpoint/source.ts";
import { attentionCases } from "./attention_cases.ts";
import { type BenchContext, type KernelCase, type KernelRow, MOST_ERROR } from "./kernel_case.ts";
import { loraCases } from "./lora_cases.ts";
import { productCases, squareCase } from "./product_cases.ts";
import { plotRoofline } from "./roofline_plot.ts";
import { crossEntropyCases, normCases, swigluCases } from "./row_cases.ts";

const schema = z.strictObject({
  model: text("path", "a model folder, random:<size>, or builtin").optional().describe(
    "Model whose sizes are taken; without it random:llama2-7b, or random:tiny without a GPU.",
  ),
  tokens: worded(z.array(z.int().min(2)).min(1), "integers", "whole numbers from 2 up").optional()
    .describe(
      "Rows of tokens in training's kernels; without it 121,968,4096 (31,128 without a GPU).",
    ),
  dtype: choice(["f16", "f32"]).optional().describe("Of weights; without it both."),
  only: text("text", "part of a kernel's name").optional().describe(
    "Only kernels whose name has this in it, beside the roofs.",
  ),
  plot: text("file", "an .svg file to write").optional().describe("Draw the roofline plot."),
  gpu: common.gpu,
  json: flag().default(false).describe("Print one JSON object."),
});

const KERNELS = command(
  "bench kernels",
  "[--flag value ...]",
  "Checks and times kernels at the sizes of training and decoding.",
  schema,
);

/** What a case gave. */
type Timed = Pick<KernelCase, "name" | "tokens" | "flops" | "bytes"> & {
  dtype: Dtype;
  seconds: number;
  error: number;
};

/** Checks and times one case. @throws {UserError} where its result is wrong. */
async function time(context: BenchContext, { name, tokens, flops, bytes, ...kernel }: KernelCase) {
  const { gpu, dtype } = context, error = await kernel.check();
  if (!(error <= MOST_ERROR[dtype])) {
    throw new UserError(`${name}, ${dtype}: wrong result, relative error ${error}`);
  }
  const seconds = await gpuSeconds(gpu, () => kernel.run(), { repeats: 5 });
  return { name, dtype, tokens, flops, bytes, seconds, error };
}

/** Every case of a dtype: decoding first, then training with so many tokens. */
function* cases(context: BenchContext, tokens: readonly number[]): Generator<KernelCase> {
  yield* productCases(context, 1);
  for (const count of tokens) {
    yield* productCases(context, count);
    yield* attentionCases(context, count);
    yield* normCases(context, count);
    yield* swigluCases(context, count);
    yield* loraCases(context, count);
    yield* crossEntropyCases(context, count);
  }
}

/** Times beside the roofs: a dtype's own best matrix product, and the bandwidth. */
function compare(timed: readonly Timed[], bandwidth: number): KernelRow[] {
  const best = (dtype: Dtype) =>
    Math.max(
      ...timed.filter((row) => row.dtype === dtype && row.name.startsWith("matmul"))
        .map(({ flops, seconds }) => flops / seconds),
    );
  const matmul = { f16: best("f16"), f32: best("f32"), u32: NaN };
  return timed.map(({ seconds, flops, bytes, error, ...what }) => {
    const limit = limitOf({ flops, bytes, seconds }, { bandwidth, matmul: matmul[what.dtype] });
    return {
      ...what,
      milliseconds: 1e3 * seconds,
      flops,
      bytes,
      tflops_per_second: flops / seconds / 1e12,
      gigabytes_per_second: bytes / seconds / 1e9,
      roof: limit.roof,
      of_roof: limit.share,
      error,
    };
  });
}

async function measure(
  gpu: Gpu,
  { dtypes, tokens, only, config }: {
    dtypes: readonly Dtype[];
    tokens: readonly number[];
    only?: string;
    config: BenchContext["config"];
  },
): Promise<Timed[]> {
  const timed: Timed[] = [];
  for (const dtype of dtypes) {
    const context: BenchContext = { gpu, config, dtype };
    for (const square of squareCase(context, squareSide(gpu))) {
      timed.push(await time(context, square));
    }
    for (const kernel of cases(context, tokens)) {
      if (only !== undefined && !kernel.name.includes(only)) continue;
      timed.push(await time(context, kernel));
      const { name, seconds } = timed[timed.length - 1];
      noteLine(`${dtype} ${name}: ${(1e6 * seconds).toFixed(1)} µs`);
    }
  }
  return timed;
}

function line(row: KernelRow): string {
  return [
    `${(1e3 * row.milliseconds).toFixed(1).padStart(11)} µs`,
    `${row.tflops_per_second.toFixed(3).padStart(9)} TFLOP/s`,
    `${row.gigabytes_per_second.toFixed(1).padStart(8)} GB/s`,
    `${(100 * row.of_roof).toFixed(0).padStart(5)} % of ${row.roof.padEnd(9)}`,
    `error ${row.error.toExponential(1)}`,
    ` ${row.dtype} ${row.name}`,
  ].join(" ");
}

/** Runs the bench and prints a table, or JSON. */
export async function benchKernels(args: string[]): Promise<void> {
  const flags = parseFlags(KERNELS, args);
  const dtypes: Dtype[] = flags.dtype === undefined ? ["f16", "f32"] : [flags.dtype];
  const precision = dtypes[0] === "f16" ? "mixed" : "fp32";
  const gpu = await openGpu({ provider: flags.gpu, precision, profile: true });
  if (gpu.profiler) gpu.profiler.granularity = "nothing";
  const model = flags.model ?? (gpu.software ? "random:tiny" : "random:llama2-7b");
  const tokens = flags.tokens ?? (gpu.software ? [31, 128] : [121, 968, 4096]);
  const { config } = openModel(model), { only } = flags;
  const copy = await copySeconds(gpu), bandwidth = copy.bytes / copy.seconds;
  const rows = compare(await measure(gpu, { dtypes, tokens, only, config }), bandwidth);
  const result = {
    gpu: gpu.name,
    provider: gpu.provider,
    model,
    tokens,
    copy_gigabytes_per_second: bandwidth / 1e9,
    rows,
  };
  gpu.close();
  if (flags.plot !== undefined) {
    await plotRoofline(flags.plot, `${gpu.name} (${gpu.provider})`, rows, bandwidth);
  }
  if (flags.json) return printJson(result, 2);
  printLine(`${model} on ${gpu.name} (${gpu.provider}); medians of batches`);
  printLine(`copy, read plus written: ${(bandwidth / 1e9).toFixed(1)} GB/s`);
  printLine(rows.map(line).join("\n"));
}
