/**
 * Pipelines of a device, built once per program: when it is first launched, or before that.
 *
 * Building doesn't wait: WGSL errors are collected and thrown by {@linkcode Pipelines.check}.
 *
 * @module
 */
import { compileAside, type Compilers } from "./compilers.ts";
import { letEventsIn } from "./event_loop.ts";
import { type PipelinePlan, pipelineSource, planPipeline } from "./pipeline_source.ts";
import { type Program, wgslError } from "./program.ts";
import type { Provider } from "./providers/provider.ts";
import { noteText } from "../terminal.ts";
import { setTimeout as delay } from "node:timers/promises";

/** A compiled program. */
export interface Pipeline {
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
}

/** A character of a program on tensor cores takes a driver so many times as long as another's (NVIDIA's: 3 to 7). */
const MATRICES = 4;

/** How long a driver takes for a program, relative to others. */
function effort({ body, extensions = [] }: Program): number {
  return body.length * (extensions.includes("subgroup_matrix") ? MATRICES : 1);
}

/** Programs that are too few to be compiled on other devices. */
const FEW_PROGRAMS = 8;
/** A driver that takes so many milliseconds for a program has to compile it, and likely the others too. */
const LONG = 50;
/** Turns of the event loop, of so many milliseconds, in which the implementation tells what is built. */
const TURNS = 5, TURN = 2;

/** The pipelines made so far. */
export class Pipelines {
  /** By program id. */
  readonly #built: (Pipeline | undefined)[] = [];
  /** Ids of the programs that were built or are being built. */
  readonly #begun = new Set<number>();
  /** Pipelines that are being built aside, by program id. */
  readonly #aside = new Map<number, Promise<void>>();
  /** What pipelines will be built from, as far as it was made ahead, by program id. */
  readonly #plans = new Map<number, PipelinePlan>();
  #checks: Promise<void>[] = [];
  #failure?: Error;
  #ended = false;
  /** Programs that are launched, while they are only listed to be compiled. */
  listed?: Set<Program>;
  /** Prints each program's WGSL once, for debugging. */
  print = false;

  constructor(
    readonly device: GPUDevice,
    readonly provider: Pick<Provider, "dialect" | "compilesInParallel">,
    readonly compilers?: Compilers,
  ) {}

  /** Number of programs built or being built. */
  get count(): number {
    return this.#begun.size;
  }

  /** The pipeline of a program. */
  get(program: Program): Pipeline {
    return this.#built[program.id] ??= this.#build(program);
  }

  /**
   * Builds pipelines that are neither built nor being built, those that take longest first: side by side where the
   * implementation can, otherwise one after the other. Where the driver has to compile many, other devices do it.
   *
   * @param between Awaited between two that are built one after the other.
   * @returns how many there are, when they are built.
   * @throws as {@linkcode check} does.
   */
  async compile(programs: Iterable<Program>, between?: () => Promise<void>): Promise<number> {
    const fresh = [...programs].filter(({ id }) => !this.#begun.has(id))
      .sort((a, b) => effort(b) - effort(a));
    const { compilers } = this;
    if (compilers !== undefined && fresh.length >= FEW_PROGRAMS) {
      const [middle] = fresh.slice(fresh.length >> 1);
      if (await this.#takesLong(middle)) await this.#compileAside(compilers, fresh, between);
    }
    if (this.provider.compilesInParallel) {
      await Promise.all(fresh.map((program) => this.#buildAside(program)));
    } else await this.#buildInTurn(fresh, between);
    await this.check();
    return fresh.length;
  }

  /** Ends compilations on other devices. */
  end(): void {
    this.#ended = true;
  }

  async #buildInTurn(programs: readonly Program[], between?: () => Promise<void>): Promise<void> {
    for (const [i, program] of programs.entries()) {
      if (i > 0 && between !== undefined) await between();
      this.get(program);
    }
  }

  /** Builds a pipeline; whether the driver takes {@linkcode LONG}, so that it may not be built yet. */
  async #takesLong(program: Program): Promise<boolean> {
    if (!this.provider.compilesInParallel) {
      this.#parse(program);
      const began = performance.now();
      this.get(program);
      return performance.now() - began > LONG;
    }
    let isBuilt = false;
    const built = this.#buildAside(program).then(() => isBuilt = true);
    await Promise.race([built, delay(LONG)]);
    // This thread may have been busy meanwhile, and not have heard of it.
    for (let turn = 0; turn < TURNS && !isBuilt; turn++) await delay(TURN);
    return !isBuilt;
  }

  /** Compiles programs on other devices, and builds each pipeline when the driver has it. */
  async #compileAside(
    compilers: Compilers,
    programs: readonly Program[],
    between: () => Promise<void> = letEventsIn,
  ): Promise<void> {
    const left = programs.filter(({ id }) => !this.#begun.has(id));
    const sources = left.map((program) => pipelineSource(program, this.provider.dialect));
    const ready: Program[] = [];
    let more = Promise.withResolvers<void>(), isOver = false;
    const compiled = (index: number) => {
      if (this.provider.compilesInParallel) this.#buildAside(left[index]);
      else ready.push(left[index]);
      more.resolve();
    };
    const over = compileAside(compilers, sources, compiled, () => this.#ended)
      .then(() => isOver = true);
    if (this.provider.compilesInParallel) return void await over;
    // While others compile, this thread parses, which takes a tenth of the time.
    const unparsed = left.values();
    while (!isOver || ready.length > 0) {
      const program = ready.shift(), next = program ?? unparsed.next().value;
      if (program !== undefined) this.get(program);
      else if (next !== undefined) this.#parse(next);
      else {
        await Promise.race([more.promise, over]);
        more = Promise.withResolvers();
      }
      await between();
    }
  }

  /**
   * Waits for the reports of pipelines that were built as they were launched.
   *
   * @throws {UserError} the first WGSL error so far, with the program's name and the offending lines.
   */
  async check(): Promise<void> {
    const checks = this.#checks;
    this.#checks = [];
    await Promise.all(checks);
    if (this.#failure !== undefined) throw this.#failure;
  }

  #build(program: Program): Pipeline {
    this.device.pushErrorScope("validation");
    const { module, layout, descriptor } = this.#plan(program);
    const pipeline = this.device.createComputePipeline(descriptor);
    this.#checks.push(
      this.device.popErrorScope().then(async (error) => {
        if (error !== null) await this.#fail(program, module, error);
      }),
    );
    return { pipeline, layout };
  }

  /** Builds a pipeline on a thread of the implementation, once. */
  #buildAside(program: Program): Promise<void> {
    let built = this.#aside.get(program.id);
    if (built === undefined) this.#aside.set(program.id, built = this.#startAside(program));
    return built;
  }

  async #startAside(program: Program): Promise<void> {
    this.#parse(program);
    const { module, layout, descriptor } = this.#plan(program);
    try {
      const pipeline = await this.device.createComputePipelineAsync(descriptor);
      this.#built[program.id] ??= { pipeline, layout };
    } catch (error) {
      await this.#fail(program, module, error as Error);
    }
  }

  /** Parses a program ahead. A wrong one's error is reported once more with the pipeline. */
  #parse(program: Program): void {
    if (this.#built[program.id] !== undefined || this.#plans.has(program.id)) return;
    this.device.pushErrorScope("validation");
    this.#plans.set(program.id, this.#plan(program));
    this.device.popErrorScope();
  }

  /** What a pipeline is built from. */
  #plan(program: Program): PipelinePlan {
    const parsed = this.#plans.get(program.id);
    this.#plans.delete(program.id);
    if (parsed !== undefined) return parsed;
    this.#begun.add(program.id);
    const source = pipelineSource(program, this.provider.dialect);
    if (this.print) noteText(`// ${program.key}\n${source.code}\n`);
    return planPipeline(this.device, source);
  }

  async #fail(program: Program, module: GPUShaderModule, { message }: GPUError): Promise<void> {
    const { messages } = await module.getCompilationInfo();
    const errors = messages.filter(({ type }) => type === "error");
    this.#failure ??= wgslError(program, this.provider.dialect, errors, message);
  }
}
