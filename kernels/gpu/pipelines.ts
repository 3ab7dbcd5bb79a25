/**
 * Pipelines of a device, built once per program: when it is first launched, or before that.
 *
 * Building doesn't wait: WGSL errors are collected and thrown by {@linkcode Pipelines.check}.
 *
 * @module
 */
import { type Program, wgsl, wgslError } from "./program.ts";
import type { Provider } from "./providers/provider.ts";
import { noteText } from "../terminal.ts";

/** A compiled program. */
export interface Pipeline {
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
}

/** What a pipeline is built from. */
interface Plan {
  module: GPUShaderModule;
  layout: GPUBindGroupLayout;
  descriptor: GPUComputePipelineDescriptor;
}

/** The pipelines made so far. */
export class Pipelines {
  /** By program id. */
  readonly #built: (Pipeline | undefined)[] = [];
  /** Ids of the programs that were built or are being built. */
  readonly #begun = new Set<number>();
  #checks: Promise<void>[] = [];
  #failure?: Error;
  /** Prints each program's WGSL once, for debugging. */
  print = false;

  constructor(
    readonly device: GPUDevice,
    readonly provider: Pick<Provider, "dialect" | "compilesInParallel">,
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
   * Builds pipelines that are neither built nor being built: side by side where the implementation can, those of the
   * longest programs first. Otherwise one after the other.
   *
   * @param between Awaited between two that are built one after the other.
   * @returns how many there are, when they are built.
   * @throws as {@linkcode check} does.
   */
  async compile(programs: Iterable<Program>, between?: () => Promise<void>): Promise<number> {
    const fresh = [...programs].filter(({ id }) => !this.#begun.has(id));
    if (this.provider.compilesInParallel) {
      fresh.sort((a, b) => b.body.length - a.body.length);
      await Promise.all(fresh.map((program) => this.#buildAside(program)));
    } else {
      for (const [i, program] of fresh.entries()) {
        if (i > 0 && between !== undefined) await between();
        this.get(program);
      }
    }
    await this.check();
    return fresh.length;
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

  async #buildAside(program: Program): Promise<void> {
    this.device.pushErrorScope("validation");
    const { module, layout, descriptor } = this.#plan(program);
    // A wrong module's error is reported once more with the pipeline.
    this.device.popErrorScope();
    try {
      const pipeline = await this.device.createComputePipelineAsync(descriptor);
      this.#built[program.id] ??= { pipeline, layout };
    } catch (error) {
      await this.#fail(program, module, error as Error);
    }
  }

  #plan(program: Program): Plan {
    const { device } = this;
    this.#begun.add(program.id);
    const code = wgsl(program, this.provider.dialect);
    if (this.print) noteText(`// ${program.key}\n${code}\n`);
    const uniformBytes = program.uniformNames.length * 4;
    const entries: GPUBindGroupLayoutEntry[] = program.bindings.map((b, i) => ({
      binding: i + 1,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type: b.access === "read" ? "read-only-storage" : "storage" },
    }));
    if (uniformBytes > 0) {
      entries.push({
        binding: 0,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: uniformBytes },
      });
    }
    const module = device.createShaderModule({ label: program.key, code });
    const layout = device.createBindGroupLayout({ entries });
    const descriptor = {
      label: program.key,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main" },
    };
    return { module, layout, descriptor };
  }

  async #fail(program: Program, module: GPUShaderModule, { message }: GPUError): Promise<void> {
    const { messages } = await module.getCompilationInfo();
    const errors = messages.filter(({ type }) => type === "error");
    this.#failure ??= wgslError(program, this.provider.dialect, errors, message);
  }
}
