/**
 * Measures tiles of matrix products on the GPU at hand and keeps the best: every command finds them there.
 *
 * @module
 */
import { z } from "zod";
import { UsageError, UserError } from "../kernels/errors.ts";
import { openGpu } from "../kernels/gpu/gpu.ts";
import {
  MOST_TUNED_ROWS,
  NO_TILES,
  readTiles,
  tileNumbers,
  tilesKey,
  tokensOf,
  TUNED_STEP,
  useTiles,
} from "../kernels/ops/matmul/tuned.ts";
import { environment } from "../kernels/gpu/providers/environment.ts";
import { printJson, printLine } from "../kernels/terminal.ts";
import { command, parseFlags } from "../cli/command_line.ts";
import * as common from "../cli/common_settings.ts";
import { ProgressBar } from "../cli/progress.ts";
import { flag, text, whole } from "../cli/settings.ts";
import { replaceFile } from "./replace_file.ts";
import { openModel } from "../model/checkpoint/source.ts";
import { withLayers } from "../model/families/config.ts";
import { makeTrainConfig } from "../train/config/config.ts";
import { trainSchema } from "../train/config/schema.ts";
import { defaultModel, modelFlag } from "./default_model.ts";
import { tableLines } from "./text_table.ts";
import { askedProducts, tune, type Tuned } from "./tuning.ts";

/** Tiles are kept that take less than this share of the time of those that are predicted best. */
const WORTH = 0.99;

const schema = z.strictObject({
  model: modelFlag,
  precision: trainSchema.shape.precision,
  lora: flag().default(true).describe("Train adapters; --no-lora trains every weight."),
  tokens: whole(TUNED_STEP, MOST_TUNED_ROWS).default(320).describe(
    "Products of up to so many rows of tokens.",
  ),
  file: text("file", "a .json file to write").optional().describe(
    "Where measured tiles are kept; without it the file that the variable LORIKEET_TILES names.",
  ),
  gpu: common.gpu,
  json: flag().default(false).describe("Print one JSON object."),
});

const TUNE = command(
  "bench tune",
  "[--flag value ...]",
  "Measures tiles of matrix products on FMA units and keeps the best for every later run.",
  schema,
);

/** Puts a product's tiles on a GPU beside what the file holds already. */
function keep(path: string, gpu: string, { name, predicted, best }: Tuned): void {
  const { tiles } = readTiles(path), stored = { ...tiles[gpu] };
  delete stored[name];
  if (best.seconds < WORTH * predicted.seconds) stored[name] = tileNumbers(best.geometry);
  replaceFile(path, JSON.stringify({ tiles: { ...tiles, [gpu]: stored } }, null, 2) + "\n");
}

const sum = (tuned: readonly Tuned[], which: "predicted" | "best") =>
  tuned.reduce((total, product) => total + product[which].seconds, 0);

/** One line for each weight and orientation: over all numbers of rows, how much less time it takes. */
function lines(tuned: readonly Tuned[]): string[] {
  const groups = Map.groupBy(tuned, ({ name, product }) => {
    const { orientation, n, k, m } = product;
    const [kind] = name.split(/ \d/), weight = orientation === "tn" ? `${m}×${n}` : `${n}×${k}`;
    return `${kind} ${weight}${name.endsWith("parts") ? " in parts" : ""}`;
  });
  const percent = (less: number) => `${(100 * less).toFixed(1)} %`;
  const saved = (some: readonly Tuned[]) => 1 - sum(some, "best") / sum(some, "predicted");
  return tableLines([
    ["product", "rows of tokens", "TFLOP/s predicted", "measured", "less time", "at most"],
    ...[...groups].map(([name, some]) => {
      const rows = some.map(({ product }) => tokensOf(product));
      const flops = some.reduce((total, { product: { m, n, k } }) => total + 2 * m * n * k, 0);
      return [
        name,
        `${Math.min(...rows)} to ${Math.max(...rows)}`,
        ...[sum(some, "predicted"), sum(some, "best")].map((s) => (flops / s / 1e12).toFixed(3)),
        percent(saved(some)),
        percent(Math.max(...some.map((one) => saved([one])))),
      ];
    }),
    ["all", "", "", "", percent(saved(tuned)), ""],
  ], false);
}

/** Runs the bench and prints a table, or JSON. */
export async function benchTune(args: string[]): Promise<void> {
  const { gpu: provider, json, precision, ...flags } = parseFlags(TUNE, args);
  const path = flags.file ?? environment("LORIKEET_TILES");
  if (path === undefined) {
    throw new UsageError("flag --file is missing: expected a .json file to keep tiles in");
  }
  readTiles(path); // a damaged one is found before the work
  const gpu = await openGpu({ provider, precision, profile: true });
  useTiles(gpu, NO_TILES);
  if (gpu.profiler) gpu.profiler.granularity = "nothing";
  const model = flags.model ?? await defaultModel(gpu);
  const { config: whole } = openModel(model);
  // All blocks but the first are alike.
  const config = withLayers(whole, Math.min(2, whole.num_hidden_layers), model);
  const training = makeTrainConfig({ model, precision, lora: flags.lora });
  const steps = Math.floor(flags.tokens / TUNED_STEP);
  const tokens = Array.from({ length: steps }, (_, i) => TUNED_STEP * (i + 1));
  const products = await askedProducts(gpu, config, training, tokens), tuned: Tuned[] = [];
  if (products.length === 0) {
    throw new UserError(
      `on ${gpu.name} (${gpu.provider}) every matrix product of ${model} runs on tensor cores, whose tiles ` +
        "are fixed; those of Deno's WebGPU are measured with --gpu deno",
    );
  }
  const bar = new ProgressBar("Products", products.length);
  for (const product of products) {
    const one = await tune(gpu, product);
    keep(path, tilesKey(gpu), one);
    tuned.push(one);
    bar.update(tuned.length, one.name);
  }
  gpu.close();
  const result = {
    gpu: gpu.name,
    provider: gpu.provider,
    model,
    precision,
    lora: flags.lora,
    file: path,
    reckoned_seconds: sum(tuned, "predicted"),
    measured_seconds: sum(tuned, "best"),
    products: tuned,
  };
  if (json) return printJson(result, 2);
  printLine(`${gpu.name} (${gpu.provider}), ${model}, ${precision}`);
  printLine([...lines(tuned), `Kept in ${path}; remove it to have none.`].join("\n"));
}
