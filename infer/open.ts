/**
 * What `generate`, `chat` and `score` do alike: bring a model to the GPU and say which.
 *
 * @module
 */
import { loadingBar } from "../cli/progress.ts";
import { letEventsIn } from "../kernels/gpu/event_loop.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { Memory } from "../kernels/gpu/memory.ts";
import type { Dtype } from "../kernels/gpu/tensor.ts";
import { noteLine } from "../kernels/terminal.ts";
import {
  compilationLine,
  type FoundModel,
  type Loaded,
  openSession,
  type Session,
} from "../model/session.ts";
import { Llama } from "../model/transformer/llama.ts";
import { frozenKinds } from "../model/transformer/quantization.ts";
import { type Mode, numericsOf, storageOf } from "../model/transformer/modes.ts";
import type { CacheFlags, ModelFlags } from "./flags.ts";

/** Element type of the KV cache. */
export function cacheDtype(
  { cache_dtype, precision }: Pick<CacheFlags, "cache_dtype" | "precision">,
): Dtype {
  if (cache_dtype !== "auto") return cache_dtype;
  return storageOf(precision);
}

/** What is loaded, and how. */
export interface LoadRun<T> {
  mode: Mode;
  /** Makes what is needed beside the model. */
  also: (memory: Memory, model: Llama) => T;
  /** What would need less memory, for the message where it does not fit. */
  advice: string;
  /** Launches what comes first, so that it is compiled while weights are loaded: with what `also` makes without memory. */
  rehearse?: Rehearsal<T>;
}

/** Tokens of a prompt that is not known yet. */
const TYPICAL_TOKENS = 64;

/** A prompt as long as first ones often are, to compile for. */
export function typicalPrompt(context: number): number[] {
  return Array<number>(Math.min(TYPICAL_TOKENS, Math.ceil(context / 2))).fill(0);
}

/** Launches what is to be compiled. */
export type Rehearsal<T> = (gpu: Gpu, planned: T, model: Llama) => void;

/** Compiles what a rehearsal launches. @returns Programs compiled. */
export async function precompile<T>(
  gpu: Gpu,
  model: Llama,
  { also, rehearse }: { also: LoadRun<T>["also"]; rehearse: Rehearsal<T> },
): Promise<number> {
  return await gpu.precompile(() => {
    rehearse(gpu, also(new Memory(undefined, gpu.memory.limits), model), model);
    // Nothing of this has been computed.
    model.parametersChanged();
  }, letEventsIn);
}

/**
 * Opens the GPU and loads a model.
 *
 * @throws {UserError} where there is no GPU, or not the memory: then before anything is allocated.
 */
export async function loadModel<T>(
  { source, adapter }: Pick<FoundModel, "source" | "adapter">,
  flags: Omit<ModelFlags, "adapter">,
  { mode, also, advice, rehearse }: LoadRun<T>,
): Promise<Session<Loaded & { also: T }>> {
  const make = (memory: Memory) => {
    const model = new Llama(memory, {
      config: source.config,
      numerics: numericsOf(flags),
      frozen: frozenKinds(source.config, flags, source.weights),
      lora: adapter?.plan,
      owners: adapter?.owners,
      mode,
    });
    return { model, also: also(memory, model) };
  };
  const session = await openSession(source, make, {
    gpu: { provider: flags.gpu, precision: flags.precision, profile: flags.profile },
    seed: flags.seed,
    adapter,
    progress: loadingBar(),
    advice,
    allocated: sayGpu,
    compile: rehearse && ((gpu, { model }) => precompile(gpu, model, { also, rehearse })),
  });
  if (session.compilation !== undefined) noteLine(compilationLine(session.compilation));
  return session;
}

function sayGpu(gpu: Gpu): void {
  noteLine(`GPU: ${gpu.name} (${gpu.provider}: ${gpu.reason})`);
}
