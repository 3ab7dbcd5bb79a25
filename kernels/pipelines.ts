/**
 * Pipelines of a device, built once per program when it is first launched.
 *
 * Building doesn't wait: WGSL errors are collected and thrown by {@linkcode Pipelines.check}.
 *
 * @module
 */
import { type Dialect, type Program, wgsl, wgslError } from "./program.ts";

/** A compiled program. */
export interface Pipeline {
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
}

/** The pipelines made so far. */
export class Pipelines {
  readonly #made = new Map<number, Pipeline>();
  #checks: Promise<void>[] = [];
  #failure?: Error;
  /** Prints each program's WGSL once, for debugging. */
  print = false;

  constructor(readonly device: GPUDevice, readonly dialect: Dialect) {}

  /** The pipeline of a program. */
  get(program: Program): Pipeline {
    let made = this.#made.get(program.id);
    if (made === undefined) {
      made = this.#build(program);
      this.#made.set(program.id, made);
    }
    return made;
  }

  /** @throws {UserError} the first WGSL error, with the program's name and the offending lines. */
  async check(): Promise<void> {
    const checks = this.#checks;
    this.#checks = [];
    await Promise.all(checks);
    if (this.#failure !== undefined) throw this.#failure;
  }

  #build(program: Program): Pipeline {
    const { device } = this;
    const code = wgsl(program, this.dialect);
    if (this.print) console.error(`// ${program.key}\n${code}\n`);
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
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label: program.key, code });
    const layout = device.createBindGroupLayout({ entries });
    const pipeline = device.createComputePipeline({
      label: program.key,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main" },
    });
    this.#checks.push(
      device.popErrorScope().then(async (error) => {
        if (error === null) return;
        const { messages } = await module.getCompilationInfo();
        this.#failure ??= wgslError(program, this.dialect, messages, error.message);
      }),
    );
    return { pipeline, layout };
  }
}
