/**
 * Loading: the time that weights take from a file to the GPU, beside `cat FILE >/dev/null` with the page
 * cache in the same state, and the host memory it takes. The file is made on the spot and removed.
 *
 * @module
 */
import { join } from "node:path";
import { z } from "zod";
import { present } from "../kernels/present.ts";
import { UserError } from "../kernels/errors.ts";
import { type Gpu, openGpu } from "../kernels/gpu/gpu.ts";
import { megabytes } from "../kernels/gpu/memory.ts";
import { median } from "../kernels/measure/timing.ts";
import { noteLine, printJson, printLine } from "../kernels/terminal.ts";
import { command, parseFlags } from "../cli/command_line.ts";
import * as common from "../cli/common_settings.ts";
import { choice, flag, worded } from "../cli/settings.ts";
import { type ModelConfig, weightShapes } from "../model/families/config.ts";
import { fromFloat32, toFloat32 } from "../model/formats/half.ts";
import { openHuggingFace } from "../model/formats/huggingface.ts";
import { writeHuggingFace } from "../model/formats/write_huggingface.ts";
import { tensorBytes, type TensorToWrite } from "../model/formats/write_safetensors.ts";
import type { FileDtype } from "../model/formats/weights.ts";
import { Llama } from "../model/transformer/llama.ts";
import { numericsOf, scoreMode } from "../model/transformer/modes.ts";
import { frozenKinds, type QuantizationSettings } from "../model/transformer/quantization.ts";
import { loadWeights } from "../model/checkpoint/load.ts";
import { presetConfig } from "../model/families/presets.ts";

const schema = z.strictObject({
  gigabytes: worded(z.number().min(0.1).max(1000), "number", "a number from 0.1 to 1000").default(2)
    .describe("Size of the file, rounded to whole blocks of the model."),
  dtype: choice(["f16", "f32", "bf16"]).default("f16").describe(
    "The file's dtype; f16 and f32 go to tensors of the same dtype, bf16 to f16.",
  ),
  quantization: common.quantization,
  double_quantization: common.double_quantization,
  json: flag().default(false).describe("Print one JSON object."),
});

const REPEATS = { warm: 5, cold: 3 };

/** One line of the result. */
interface Row {
  page_cache: "warm" | "cold";
  cat_seconds: number;
  load_seconds: number;
  /** Of the load's time to cat's. */
  ratio: number;
  gigabytes_per_second: number;
  /** Most that the process grew by during a load, in MB (2^20 bytes). */
  host_memory_mb: number;
}

const LOAD = command(
  "bench load",
  "[--flag value ...]",
  "Times the loading of weights beside `cat`.",
  schema,
);

/** A model of so many bytes in a file: wide as llama-1b, with as many blocks as it takes. */
function modelOf(bytes: number, dtype: FileDtype): ModelConfig {
  const config = presetConfig("llama-1b");
  const size = (num_hidden_layers: number) =>
    [...weightShapes({ ...config, num_hidden_layers }).values()]
      .reduce((sum, shape) => sum + tensorBytes({ dtype, shape }), 0);
  const block = size(2) - size(1);
  const num_hidden_layers = 1 + Math.max(0, Math.round((bytes - size(1)) / block));
  return { ...config, num_hidden_layers };
}

/** Random numbers from 0.5 to 2 in size in every dtype: none is lost between bf16 and f16. */
function randomBlock(): Uint8Array {
  const words = new Uint16Array(1 << 23), most = 1 << 15; // as many as can be asked for at once
  for (let at = 0; at < words.length; at += most) {
    crypto.getRandomValues(words.subarray(at, at + most));
  }
  return new Uint8Array(words.map((word) => (word & 0x80ff) | 0x3f00).buffer);
}

/** Weights whose bytes are pieces of one random block; its length divides no piece of a load. */
function* weights(config: ModelConfig, dtype: FileDtype): Generator<TensorToWrite> {
  const block = randomBlock().subarray(0, -65536);
  function* data(bytes: number, start: number) {
    for (let at = start; bytes > 0; at = 0) {
      const piece = block.subarray(at, at + bytes);
      yield piece;
      bytes -= piece.length;
    }
  }
  let start = 0;
  for (const [name, shape] of weightShapes(config)) {
    yield { name, dtype, shape, data: data(tensorBytes({ dtype, shape }), start) };
    start = (start + 4096) % block.length;
  }
}

/** Runs a program and throws where it fails. */
async function run(program: string, args: string[]): Promise<void> {
  // Deno runs nothing that would inherit LD_LIBRARY_PATH, where the launcher has to set it.
  const options = { clearEnv: true, stdout: "null", stderr: "null" } as const;
  const { success } = await new Deno.Command(program, { args, ...options }).output();
  if (!success) throw new UserError(`${program} ${args.join(" ")} failed`);
}

/** Makes the system forget a file's pages, where it can be asked to (GNU dd on Linux). */
async function dropFromCache(file: string): Promise<boolean> {
  const flags = ["oflag=nocache", "conv=notrunc,fdatasync", "count=0"];
  return await run("dd", [`of=${file}`, ...flags]).then(() => true, () => false);
}

async function secondsOf(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** Compares the first and the last tensor, a block's and a norm with the file; none that is quantised. */
async function checkWeights(gpu: Gpu, { weights, config }: Llama, folder: string): Promise<void> {
  const source = openHuggingFace(folder);
  const middle = `model.layers.${config.num_hidden_layers >> 1}.mlp.down_proj.weight`;
  const norm = "model.norm.weight";
  const names = [weights[0].name, middle, norm, present(weights.at(-1), "weight").name];
  const checked = weights.filter(({ name, operand: { kind } }) =>
    names.includes(name) && kind.element !== undefined
  );
  for (const { name, value } of checked) {
    const { dtype, bytes } = source.info(name);
    const file = new Uint8Array(bytes);
    await source.read(name, 0, file);
    const to = value.dtype === "f16" ? "F16" : "F32";
    const expected = new Uint8Array(tensorBytes({ dtype: to, shape: value.shape }));
    if (dtype === to) expected.set(file);
    else fromFloat32(toFloat32(file, dtype), to, expected);
    const [a, b] = [await gpu.read(value), expected.buffer].map((x) => new Uint32Array(x));
    const wrong = a.findIndex((word, i) => word !== b[i]);
    if (wrong >= 0) throw new UserError(`${name}: wrong from byte ${wrong * 4} on after loading`);
  }
  source.close();
}

/** What is loaded, and into what. */
interface LoadedModel {
  folder: string;
  file: string;
  dtype: FileDtype;
  quantized: QuantizationSettings;
}

/** Loads the model onto a device of its own, as a program that has just started does. */
async function load({ folder, dtype, quantized }: LoadedModel, check: boolean) {
  const gpu = await openGpu();
  const before = Deno.memoryUsage().rss;
  let model: Llama | undefined, most = before;
  const seconds = await secondsOf(async () => {
    const source = openHuggingFace(folder);
    const { config } = source;
    const precision = dtype === "F32" ? "fp32" : "mixed";
    const numerics = numericsOf({ precision, exact_products: false });
    const mode = scoreMode({ maxTokens: 1, maxTargets: 1 });
    const frozen = frozenKinds(config, quantized, source);
    model = new Llama(gpu.memory, { config, numerics, mode, frozen });
    const progress = () => most = Math.max(most, Deno.memoryUsage().rss);
    await loadWeights(gpu, model, { name: folder, config, weights: source }, { seed: 0, progress });
  });
  if (check) await checkWeights(gpu, present(model, "model"), folder);
  gpu.close();
  return { seconds, grown: most - before };
}

/** Times both in turns with the page cache in one state; undefined where it can't be had. */
async function measure(
  loading: LoadedModel,
  page_cache: Row["page_cache"],
): Promise<Row | undefined> {
  const { file } = loading;
  const prepare = async () => page_cache === "warm" || await dropFromCache(file);
  const cat = () => secondsOf(() => run("cat", [file]));
  const cats: number[] = [], loads: number[] = [];
  let grown = 0;
  if (page_cache === "warm") await cat();
  for (let i = 0; i < REPEATS[page_cache]; i++) {
    if (!await prepare()) return undefined;
    cats.push(await cat());
    await prepare();
    const loaded = await load(loading, i === 0 && page_cache === "warm");
    loads.push(loaded.seconds);
    grown = Math.max(grown, loaded.grown);
  }
  const [cat_seconds, load_seconds] = [median(cats), median(loads)];
  return {
    page_cache,
    cat_seconds,
    load_seconds,
    ratio: load_seconds / cat_seconds,
    gigabytes_per_second: Deno.statSync(file).size / load_seconds / 1e9,
    host_memory_mb: megabytes(grown),
  };
}

function report({ gpu, software, bytes, dtype, quantization, rows }: {
  gpu: string;
  software: boolean;
  bytes: number;
  dtype: FileDtype;
  quantization: QuantizationSettings["quantization"];
  rows: readonly Row[];
}): void {
  const medians = rows.map(({ page_cache }) => `${REPEATS[page_cache]} ${page_cache}`).join(", ");
  const into = quantization === "none" ? "" : ` into ${quantization}`;
  printLine(`${gpu}; ${(bytes / 1e9).toFixed(2)} GB of ${dtype}${into}, medians (${medians})`);
  const names = ["page cache", "cat", "load", "load / cat", "GB/s", "host memory"];
  printLine(names.map((name) => name.padStart(13)).join(""));
  for (const row of rows) {
    const cells = [
      row.page_cache,
      `${row.cat_seconds.toFixed(3)} s`,
      `${row.load_seconds.toFixed(3)} s`,
      row.ratio.toFixed(2),
      row.gigabytes_per_second.toFixed(2),
      `+${row.host_memory_mb.toFixed(0)} MB`,
    ];
    printLine(cells.map((cell) => cell.padStart(13)).join(""));
  }
  if (software) printLine("A software driver's host memory has the loaded model in it.");
}

/** Runs the bench and prints a table, or JSON. */
export async function benchLoad(args: string[]): Promise<void> {
  const flags = parseFlags(LOAD, args);
  if (Deno.build.os === "windows") {
    throw new UserError(
      "bench load compares with `cat`, which Windows lacks; expected another system",
    );
  }
  const dtype = flags.dtype.toUpperCase() as FileDtype;
  const { quantization, double_quantization } = flags;
  const quantized = { quantization, double_quantization, quantization_skip: [] };
  const { name: gpuName, software } = await openGpu().then((gpu) => (gpu.close(), gpu));
  const folder = Deno.makeTempDirSync();
  const interrupted = () => {
    Deno.removeSync(folder, { recursive: true });
    Deno.exit(130);
  };
  Deno.addSignalListener("SIGINT", interrupted);
  try {
    const config = modelOf(flags.gigabytes * 1e9, dtype), model = join(folder, "model");
    await writeHuggingFace(model, config, weights(config, dtype), { maxFileBytes: Infinity });
    const file = join(model, "model.safetensors"), rows: Row[] = [];
    for (const state of ["warm", "cold"] as const) {
      const row = await measure({ folder: model, file, dtype, quantized }, state);
      if (row !== undefined) rows.push(row);
      else noteLine(`${state}: dd can't drop files from the page cache here`);
    }
    const { size: bytes } = Deno.statSync(file);
    const result = { gpu: gpuName, software, bytes, dtype, quantization, rows };
    if (flags.json) printJson(result, 2);
    else report(result);
  } finally {
    Deno.removeSignalListener("SIGINT", interrupted);
    Deno.removeSync(folder, { recursive: true });
  }
}
