/**
 * From a model's files to a model that works: one place where the GPU is opened, the memory planned and allocated, and
 * weights and adapter loaded; and where all of it is given back.
 *
 * @module
 */
import { type Gpu, type GpuOptions, openGpu } from "../kernels/gpu/gpu.ts";
import type { Memory } from "../kernels/gpu/memory.ts";
import type { Dtype } from "../kernels/gpu/tensor.ts";
import { noteLine } from "../kernels/terminal.ts";
import type { AdapterPlan } from "./adapter/plan.ts";
import { initializeAdapters, loadAdapter, loadWeights } from "./checkpoint/load.ts";
import {
  type ModelSource,
  type ModelWithTokenizer,
  openModelWithTokenizer,
} from "./checkpoint/source.ts";
import { Answer } from "./engine/answer.ts";
import { AT_LEAST_ONE, checkChoice, checkNames, checkNumber, U32 } from "./engine/checks.ts";
import { Engine, type SequenceOptions } from "./engine/engine.ts";
import type { EngineSizes } from "./engine/slots.ts";
import { contextLength } from "./families/config.ts";
import { type Adapter, checkAdapter, readAdapter } from "./adapter/adapter_folder.ts";

import { encodePrompt } from "./text/prompt.ts";
import { stopTokens } from "./text/tokenizer/stop_tokens.ts";
import type { AddBos, Tokenizer } from "./text/tokenizer/tokenizer.ts";
import { allocatePlanned } from "./transformer/capacity.ts";
import { Llama } from "./transformer/llama.ts";
import { generateMode, numericsOf, storageOf } from "./transformer/modes.ts";
import {
  describeQuantization,
  frozenKinds,
  QUANTIZATIONS,
  type QuantizationSettings,
} from "./transformer/quantization.ts";

/** An adapter that was read and found to fit its model. */
export type FittingAdapter = Adapter & {
  plan: AdapterPlan;
  /** Where it is several in one: see {@linkcode LlamaOptions.owners}. */
  owners?: Uint32Array;
};

/** A model that was found and checked; its weights are still in their files. */
export interface FoundModel extends ModelWithTokenizer {
  adapter?: FittingAdapter;
}

/** What names a model: see {@linkcode openModelWithTokenizer}. */
export interface ModelNames {
  /** A folder in Hugging Face's or Meta's layout, a GGUF file, `random:SIZE`, or `builtin`. */
  model: string;
  /** A folder or file; without it, the tokenizer beside the model. */
  tokenizer?: string;
  /** Whether BOS is put before every text. Default `auto`: as the tokenizer has it. */
  add_bos?: AddBos;
  /** A PEFT adapter folder. */
  adapter?: string;
  /** Only the first so many blocks. */
  layers?: number;
}

/**
 * Finds a model with its tokenizer and adapter.
 *
 * @throws {UserError} where a file is missing or wrong, or tokenizer or adapter don't fit the model.
 */
export async function findModel(names: ModelNames): Promise<FoundModel> {
  const found = await openModelWithTokenizer(names);
  if (names.adapter === undefined) return found;
  try {
    const adapter = readAdapter(names.adapter);
    const plan = checkAdapter(adapter, found.source.config, names.adapter);
    return { ...found, adapter: { ...adapter, plan } };
  } catch (error) {
    found.source.weights?.close();
    throw error;
  }
}

/** What is made for a model, the model itself among it. */
export interface Loaded {
  model: Llama;
}

/** How a model gets onto a GPU. */
export interface Loading<T extends Loaded> {
  /** Decides weights of `random:` models and of new adapters. */
  seed: number;
  /** The adapter to load, or how new ones begin. */
  adapter?: Adapter | { init: "kaiming" | "gaussian" };
  /** Told the bytes of weights that are done, and all. */
  progress?: (done: number, total: number) => void;
  /** What would need less memory, for the message where it does not fit. */
  advice: string;
  /** Try to allocate whatever the plan says. */
  ignorePlan?: boolean;
  /** Called once all is allocated, before anything is loaded. */
  allocated?: (gpu: Gpu, loaded: T) => void;
  /** Compiles programs, with {@linkcode Gpu.precompile}, while weights are loaded; called after `allocated`. */
  compile?: (gpu: Gpu, loaded: T) => Promise<number>;
}

/** What was compiled while weights were loaded, and after that. */
export interface Compilation {
  programs: number;
  /** From when it began until all was ready. */
  seconds: number;
  /** Of these, those after all was loaded. */
  waited: number;
}

/** Seconds of a compilation that are worth to be divided. */
const LONG_COMPILATION = 1;

/** Says what was compiled. */
export function compilationLine({ programs, seconds, waited }: Compilation): string {
  const beside = (seconds - waited).toFixed(1);
  const part = seconds >= LONG_COMPILATION && Number(beside) > 0
    ? `, ${beside} s of it while weights were loaded`
    : "";
  return `Compiled ${programs} programs in ${seconds.toFixed(1)} s${part}`;
}

/**
 * Times a compilation.
 *
 * @param work Programs that are compiled, when they are.
 * @param loaded When all is loaded, in milliseconds. Default: it is now.
 */
export async function timedCompilation(
  work: Promise<number>,
  loaded: Promise<number> = Promise.resolve(performance.now()),
): Promise<Compilation> {
  const began = performance.now(), programs = await work, ended = performance.now();
  const waited = Math.max(0, ended - await loaded) / 1000;
  return { programs, seconds: (ended - began) / 1000, waited };
}

/**
 * Plans and allocates what `make` makes, and loads weights and adapter.
 *
 * @param make Makes the model and all that is needed beside it; called twice, once to plan.
 * @throws {DoesNotFit} where there is not the memory, before anything is allocated.
 */
export async function loadOnto<T extends Loaded>(
  gpu: Gpu,
  source: ModelSource,
  make: (memory: Memory) => T,
  loading: Loading<T>,
): Promise<T> {
  return (await loadAndCompile(gpu, source, make, loading)).loaded;
}

async function loadAndCompile<T extends Loaded>(
  gpu: Gpu,
  source: ModelSource,
  make: (memory: Memory) => T,
  { seed, adapter, progress, advice, ignorePlan, allocated, compile }: Loading<T>,
): Promise<{ loaded: T; compilation?: Compilation }> {
  const loaded = await allocatePlanned(gpu, make, advice, { ignorePlan }), { model } = loaded;
  allocated?.(gpu, loaded);
  const done = Promise.withResolvers<number>();
  const compiling = compile && timedCompilation(compile(gpu, loaded), done.promise);
  compiling?.catch(() => {}); // heard below, unless loading fails first
  const quantized = describeQuantization(source.name, model.weights, source.weights);
  if (quantized !== undefined) noteLine(quantized);
  model.initialize(gpu);
  await loadWeights(gpu, model, source, { seed, progress });
  if (adapter !== undefined && "tensors" in adapter) loadAdapter(gpu, model, adapter);
  else if (adapter !== undefined) initializeAdapters(gpu, model, { init: adapter.init, seed });
  if (compiling === undefined) return { loaded };
  // Weights on their way are no part of what is waited for.
  await gpu.finish();
  done.resolve(performance.now());
  return { loaded, compilation: await compiling };
}

/** An open GPU with a model on it. Leaving an `await using` gives both back. */
export class Session<T extends Loaded> implements AsyncDisposable {
  /** @param compilation Absent where nothing was to be compiled. */
  constructor(readonly gpu: Gpu, readonly loaded: T, readonly compilation?: Compilation) {}

  /** Waits for the GPU and closes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.gpu[Symbol.asyncDispose]();
  }
}

/**
 * Opens the GPU and loads a model onto it. With `profile`, the roofs are measured first, and loading is no part of the
 * profile.
 *
 * @throws {UserError} where there is no GPU, or not the memory.
 */
export async function openSession<T extends Loaded>(
  source: ModelSource,
  make: (memory: Memory, gpu: Gpu) => T,
  { gpu: options, ...loading }: Loading<T> & { gpu: GpuOptions },
): Promise<Session<T>> {
  const gpu = await openGpu(options);
  try {
    if (gpu.profiler) {
      const { measureRoofs } = await import("../kernels/measure/roofs.ts");
      gpu.profiler.roofs = await measureRoofs(gpu, options.precision === "mixed" ? "f16" : "f32");
    }
    const { loaded, compilation } = await loadAndCompile(
      gpu,
      source,
      (memory) => make(memory, gpu),
      loading,
    );
    await gpu.profiler?.take();
    return new Session(gpu, loaded, compilation);
  } catch (error) {
    source.weights?.close();
    gpu.close();
    throw error;
  }
}

/** How {@linkcode open} opens a model. */
export interface OpenOptions extends ModelNames, Partial<QuantizationSettings> {
  /** Which WebGPU, and more of the device. Default: what is found. */
  gpu?: GpuOptions;
  /** Default `mixed`: weights in f16, sums in f32. */
  precision?: "fp32" | "mixed";
  /** Sequences at once. Default 1. */
  sequences?: number;
  /** Tokens of a sequence at most, prompt and answer. Default: the model's own limit, 4096 at most. */
  context?: number;
  /** Element type of the KV cache, or false to do without. Default: f16 in mixed precision, else f32. */
  cache?: Dtype | false;
  /** Whether repetition penalties will be asked for, which take memory. Default false. */
  penalized?: boolean;
  /** Decides the weights of `random:` models. Default 42. */
  seed?: number;
  /** Told the bytes of weights that are loaded, and all. */
  progress?: (done: number, total: number) => void;
}

/** A piece of an answer. */
export interface AnswerPiece {
  /** Which of the prompts it answers. */
  index: number;
  /** Text that is new: whole characters, empty while one is unfinished. */
  text: string;
  /** The token that it came with; absent of what was held back to the end. */
  id?: number;
}

/** How {@linkcode Lorikeet.generate} answers: as {@linkcode SequenceOptions}, each with a default. */
export interface AnswerOptions extends Partial<SequenceOptions> {
  /** Texts that end an answer and are not part of it. */
  stopTexts?: readonly string[];
}

/** Tokens of an answer at most, where nothing is said. */
const MAX_TOKENS = 256;
/** Tokens of a sequence that there is room for, where nothing is said. */
const CONTEXT = 4096;

/** A model that answers; made by {@linkcode open}. */
export class Lorikeet implements AsyncDisposable {
  readonly #session: Session<Loaded & { engine: Engine }>;
  readonly tokenizer: Tokenizer;
  /** Tokens that end an answer. */
  readonly stop: readonly number[];

  constructor(
    session: Session<Loaded & { engine: Engine }>,
    { tokenizer, stop }: { tokenizer: Tokenizer; stop: readonly number[] },
  ) {
    this.#session = session;
    this.tokenizer = tokenizer;
    this.stop = stop;
  }

  get gpu(): Gpu {
    return this.#session.gpu;
  }

  get model(): Llama {
    return this.#session.loaded.model;
  }

  get engine(): Engine {
    return this.#session.loaded.engine;
  }

  /**
   * Continues texts, or ids, as they are: a template is the caller's. Leaving the loop ends the answers.
   *
   * @param prompts One or several; of more than there is room for at once, some wait.
   */
  async *generate(
    prompts: string | readonly (string | readonly number[])[],
    { stopTexts = [], ...options }: AnswerOptions = {},
  ): AsyncGenerator<AnswerPiece> {
    const ids = [prompts].flat().map((prompt) =>
      typeof prompt === "string" ? Array.from(encodePrompt(this.tokenizer, prompt)) : prompt
    );
    const texts = ids.map(() => "");
    const answers = ids.map((_, index) =>
      new Answer((all) => this.tokenizer.decode(all), stopTexts, (text) => texts[index] += text)
    );
    const told = (index: number) => {
      const text = texts[index];
      texts[index] = "";
      return text;
    };
    const settings = { maxTokens: MAX_TOKENS, stop: this.stop, ...options };
    for await (const { sequence, index, id } of this.engine.generate(this.gpu, ids, settings)) {
      if (!answers[index].push(id)) this.engine.evict(sequence);
      yield { index, text: told(index), id };
    }
    for (const [index, answer] of answers.entries()) {
      answer.end();
      const text = told(index);
      if (text !== "") yield { index, text };
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session[Symbol.asyncDispose]();
  }
}

/**
 * Opens a model with its tokenizer and adapter, to answer prompts.
 *
 * @throws {UserError} where an option or a file is missing or wrong, or there is no GPU, or not the memory.
 */
export async function open(options: OpenOptions): Promise<Lorikeet> {
  const { precision = "mixed", sequences = 1, penalized = false, seed = 42, progress } = options;
  checkChoice("precision", precision, ["fp32", "mixed"]);
  const { cache = storageOf(precision), context: most = CONTEXT, add_bos = "auto" } = options;
  checkChoice("cache", cache, ["f16", "f32", false]);
  checkChoice("add_bos", add_bos, ["auto", "always", "never"]);
  checkNumber("sequences", sequences, AT_LEAST_ONE);
  checkNumber("context", most, AT_LEAST_ONE);
  checkNumber("seed", seed, U32);
  const { quantization = "none", double_quantization = true, quantization_skip = [] } = options;
  checkChoice("quantization", quantization, QUANTIZATIONS);
  checkChoice("double_quantization", double_quantization, [true, false]);
  checkNames("quantization_skip", quantization_skip);
  const found = await findModel(options), { source, tokenizer, adapter } = found;
  const context = Math.min(most, contextLength(source.config));
  const sizes: EngineSizes = {
    sequences,
    context,
    promptTokens: sequences * context,
    cache: cache === false ? undefined : cache,
  };
  const make = (memory: Memory) => {
    const model = new Llama(memory, {
      config: source.config,
      numerics: numericsOf({ precision, exact_products: false }),
      frozen: frozenKinds(
        source.config,
        { quantization, double_quantization, quantization_skip },
        source.weights,
      ),
      lora: adapter?.plan,
      mode: generateMode(sizes),
    });
    return { model, engine: new Engine(memory, model, sizes, { penalized }) };
  };
  const session = await openSession(source, make, {
    gpu: { precision, ...options.gpu },
    seed,
    adapter,
    progress,
    advice: "a smaller context, fewer sequences or layers, or mixed precision.",
  });
  const stop = stopTokens(source.config, tokenizer, source.folder);
  return new Lorikeet(session, { tokenizer, stop });
}
