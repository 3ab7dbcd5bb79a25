/**
 * The device: one object that knows the adapter, compiles programs, records launches and reads back.
 *
 * Launches are recorded into one compute pass and submitted in batches, so the GPU works while the
 * next batch is recorded. Nothing here waits for the GPU except {@linkcode Gpu.read} and
 * {@linkcode Gpu.finish}.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { UserError } from "./errors.ts";
import { Memory } from "./memory.ts";
import { Pipelines } from "./pipelines.ts";
import { Profiler } from "./profile.ts";
import type { Dialect, Extension, Program } from "./program.ts";
import { type Tensor } from "./tensor.ts";

/** Work of one launch, for `--profile`: floating-point operations and bytes moved at least. */
export interface Cost {
  flops: number;
  bytes: number;
}

const UNIFORM_BYTES = 1 << 18;
const STAGING_BYTES = 1 << 20;
/** Bytes of workspace that an open device takes for itself, for plans. */
export const FIXED_WORKSPACE = UNIFORM_BYTES + STAGING_BYTES;
/** Launches recorded before they are handed to the GPU. */
const LAUNCHES_PER_SUBMIT = 400;

/** How to get an adapter, for the message where there is none. */
const NO_ADAPTER = "no GPU adapter was found: install a Vulkan driver (a GPU's own, or on Debian " +
  "and Ubuntu the software driver: apt-get install mesa-vulkan-drivers libvulkan1)";

/** Features that extensions need. */
const FEATURES: Partial<Record<Extension, string>> = { f16: "shader-f16", subgroups: "subgroups" };
/** Deno's naga takes subgroup functions without an `enable` line, and refuses one. */
const DIALECT: Dialect = { enable: { f16: "enable f16;\n" } };

/** Options of {@linkcode openGpu}. */
export interface GpuOptions {
  /** `auto` and `deno` are Deno's built-in WebGPU. */
  provider?: "auto" | "deno";
  /** Measure every launch (slower). */
  profile?: boolean;
  /** Pretend the adapter binds no more than this many bytes at once (tests of split tensors). */
  maxBinding?: number;
  /** Take the programs for software drivers, or those for GPUs, whatever the adapter (tests). */
  software?: boolean;
}

/** An open device. */
export class Gpu {
  readonly memory: Memory;
  readonly pipelines: Pipelines;
  readonly provider = "deno";
  /** The adapter's name as its driver gives it. */
  readonly name: string;
  /** True for a software driver such as Mesa's lavapipe. */
  readonly software: boolean;
  /** Largest range one binding may cover, in bytes. */
  readonly maxBinding: number;
  /** What programs may use beyond WGSL's core. */
  readonly extensions: ReadonlySet<Extension>;
  readonly profiler?: Profiler;

  readonly #bindGroups = new Map<string, GPUBindGroup>();
  readonly #uniformAlignment: number;
  readonly #uniformBuffer: GPUBuffer;
  readonly #uniformData = new ArrayBuffer(UNIFORM_BYTES);
  readonly #uniformU32 = new Uint32Array(this.#uniformData);
  readonly #uniformF32 = new Float32Array(this.#uniformData);
  #uniformOffset = 0;
  #encoder?: GPUCommandEncoder;
  #pass?: GPUComputePassEncoder;
  #launches = 0;
  #staging?: GPUBuffer;
  #scratch?: Tensor;
  #failure?: Error;

  constructor(readonly device: GPUDevice, adapter: GPUAdapter, options: GpuOptions) {
    const { limits } = device;
    this.pipelines = new Pipelines(device, DIALECT);
    const known = Object.entries(FEATURES) as [Extension, GPUFeatureName][];
    this.extensions = new Set(
      known.filter(([, feature]) => device.features.has(feature)).map(([name]) => name),
    );
    this.name = adapter.info.description || adapter.info.device || "unknown adapter";
    this.software = options.software ?? /llvmpipe|lavapipe|swiftshader/i.test(this.name);
    this.maxBinding = Math.min(limits.maxStorageBufferBindingSize, options.maxBinding ?? Infinity);
    this.memory = new Memory(device, {
      maxBufferSize: limits.maxBufferSize,
      maxBinding: this.maxBinding,
    });
    this.#uniformAlignment = limits.minUniformBufferOffsetAlignment;
    this.#uniformBuffer = this.memory.buffer(
      "workspace",
      "uniforms",
      UNIFORM_BYTES,
      GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    )!;
    if (options.profile && device.features.has("timestamp-query")) {
      this.profiler = new Profiler(device);
    }
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { error } = event as GPUUncapturedErrorEvent;
      this.#failure ??= error instanceof GPUOutOfMemoryError
        ? new UserError(`the GPU is out of memory: ${error.message}`)
        : new Error(error.message);
    });
    device.lost.then((info) => {
      if (info.reason !== "destroyed") {
        this.#failure ??= new UserError(`the GPU device was lost: ${info.message}`);
      }
    });
  }

  /** Records one launch of `program`. Tensors are bound in the order of the program's bindings. */
  run(
    program: Program,
    tensors: readonly Tensor[],
    uniforms: Readonly<Record<string, number>>,
    workgroups: readonly [number, number?, number?],
    cost?: Cost,
  ): void {
    const [x, y = 1, z = 1] = workgroups;
    if (x === 0 || y === 0 || z === 0) return;
    const { pipeline } = this.pipelines.get(program);
    const size = program.uniformNames.length * 4;
    if (this.#launches >= LAUNCHES_PER_SUBMIT || this.#uniformOffset + size > UNIFORM_BYTES) {
      this.flush();
    }
    const group = this.#bindGroup(program, tensors);
    let offset = this.#uniformOffset >> 2;
    for (const name of program.uniformNames) {
      const value = uniforms[name];
      if (value === undefined) throw new Error(`${program.key}: uniform ${name} is missing`);
      if (program.uniforms[name] === "u32") this.#uniformU32[offset++] = value;
      else this.#uniformF32[offset++] = value;
    }
    this.#encoder ??= this.device.createCommandEncoder();
    if (this.profiler !== undefined) this.#endPass();
    this.#pass ??= this.#encoder.beginComputePass(
      this.profiler?.beginPass(program.key, cost),
    );
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, group, size > 0 ? [this.#uniformOffset] : []);
    this.#pass.dispatchWorkgroups(x, y, z);
    this.#launches++;
    this.#uniformOffset += Math.ceil(size / this.#uniformAlignment) * this.#uniformAlignment;
  }

  /** Records a copy of all of `from` to the start of `to`. */
  copy(from: Tensor, to: Tensor): void {
    this.#endPass();
    this.#encoder ??= this.device.createCommandEncoder();
    this.#encoder.copyBufferToBuffer(from.buffer!, from.offset, to.buffer!, to.offset, from.bytes);
  }

  /** Records filling a tensor with zeros. */
  clear(tensor: Tensor): void {
    this.#endPass();
    this.#encoder ??= this.device.createCommandEncoder();
    this.#encoder.clearBuffer(tensor.buffer!, tensor.offset, tensor.bytes);
  }

  /** Writes host data to the start of a tensor, after everything recorded so far. */
  write(tensor: Tensor, data: Uint32Array | Float32Array | Uint8Array | Uint16Array): void {
    if (data.byteLength > tensor.bytes) {
      throw new Error(`${tensor.name}: ${data.byteLength} bytes do not fit ${tensor.bytes}`);
    }
    this.flush();
    const whole = data.byteLength & ~3;
    const { buffer, byteOffset } = data;
    if (whole > 0) {
      this.device.queue.writeBuffer(
        tensor.buffer!,
        tensor.offset,
        buffer as ArrayBuffer,
        byteOffset,
        whole,
      );
    }
    if (whole < data.byteLength) {
      const tail = new Uint8Array(4);
      tail.set(new Uint8Array(buffer as ArrayBuffer, byteOffset + whole, data.byteLength - whole));
      this.device.queue.writeBuffer(tensor.buffer!, tensor.offset + whole, tail);
    }
  }

  /** Working memory for one launch and the next: an f32 tensor of at least `bytes` bytes. */
  scratch(bytes: number): Tensor {
    if (this.#scratch === undefined || this.#scratch.bytes < bytes) {
      if (this.#scratch !== undefined) this.free(this.#scratch);
      this.#scratch = this.memory.tensor("workspace", "scratch", "f32", [bytes / 4]);
    }
    return this.#scratch;
  }

  /** Submits what is recorded and what was written, which else waits for the next submission. */
  send(): void {
    this.flush();
    this.device.queue.submit([]);
  }

  /** Submits what is recorded. */
  flush(): void {
    if (this.#encoder === undefined) return;
    this.#endPass();
    this.profiler?.resolve(this.#encoder);
    if (this.#uniformOffset > 0) {
      this.device.queue.writeBuffer(
        this.#uniformBuffer,
        0,
        this.#uniformData,
        0,
        this.#uniformOffset,
      );
    }
    this.device.queue.submit([this.#encoder.finish()]);
    this.#encoder = undefined;
    this.#launches = 0;
    this.#uniformOffset = 0;
    this.profiler?.collect();
  }

  /**
   * Reads a tensor's bytes, waiting for the GPU.
   *
   * @throws the first error that the device has reported; a {@linkcode UserError} where it was lost, ran
   * out of memory or refused a program.
   */
  async read(tensor: Tensor): Promise<ArrayBuffer> {
    await this.check();
    const out = new Uint8Array(tensor.bytes);
    this.#staging ??= await this.#openStaging();
    for (let done = 0; done < out.length; done += STAGING_BYTES) {
      const bytes = Math.min(STAGING_BYTES, out.length - done);
      this.#endPass();
      this.#encoder ??= this.device.createCommandEncoder();
      const from = tensor.offset + done;
      this.#encoder.copyBufferToBuffer(tensor.buffer!, from, this.#staging, 0, bytes);
      this.flush();
      // The buffer is mapped when the call returns, though the promise resolves 10 ms later.
      const mapped = this.#staging.mapAsync(GPUMapMode.READ, 0, bytes);
      let range: ArrayBuffer;
      try {
        range = this.#staging.getMappedRange(0, bytes);
      } catch {
        await mapped.catch((error) => this.#explain(error));
        range = this.#staging.getMappedRange(0, bytes);
      }
      out.set(new Uint8Array(range), done);
      this.#staging.unmap();
      mapped.catch(() => {});
    }
    // Signals, lost devices and errors are events, which a program that never waits would not see.
    await setImmediate();
    await this.check();
    return out.buffer;
  }

  /** Reads an f32 tensor. */
  async readF32(tensor: Tensor): Promise<Float32Array<ArrayBuffer>> {
    return new Float32Array(await this.read(tensor), 0, tensor.size);
  }

  /** Waits until the GPU has done everything submitted. */
  async finish(): Promise<void> {
    this.flush();
    await this.device.queue.onSubmittedWorkDone();
    await this.check();
  }

  /** Throws the first error that the device has reported. */
  async check(): Promise<void> {
    await this.pipelines.check();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Frees a tensor's whole buffer. Other tensors of the same arena go with it. */
  free(tensor: Tensor): void {
    if (tensor.buffer === undefined) return;
    this.flush();
    this.#bindGroups.clear();
    this.memory.free(tensor.buffer);
  }

  /** Gives the device back. */
  close(): void {
    this.device.destroy();
  }

  /** Throws what the device reports about a failed call, which says more, or else the call's error. */
  async #explain(error: unknown): Promise<never> {
    await setImmediate(); // Reports are events: they arrive once the program waits.
    await this.check();
    throw error;
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = undefined;
  }

  /** A staging buffer awaited once: only then can it be mapped without the 10 ms wait. */
  async #openStaging(): Promise<GPUBuffer> {
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    const staging = this.memory.buffer("workspace", "readback", STAGING_BYTES, usage)!;
    await staging.mapAsync(GPUMapMode.READ);
    staging.unmap();
    return staging;
  }

  #bindGroup(program: Program, tensors: readonly Tensor[]): GPUBindGroup {
    let key = `${program.id}`;
    for (const tensor of tensors) key += `,${tensor.id}`;
    let group = this.#bindGroups.get(key);
    if (group === undefined) {
      if (tensors.length !== program.bindings.length) {
        throw new Error(`${program.key}: ${program.bindings.length} tensors expected`);
      }
      const entries: GPUBindGroupEntry[] = tensors.map((tensor, i) => {
        const { name, dtype } = program.bindings[i];
        if (tensor.dtype !== dtype) {
          throw new Error(`${program.key}: ${name} is ${dtype}, ${tensor.name} is ${tensor.dtype}`);
        }
        if (tensor.bytes > this.maxBinding) {
          throw new Error(`${program.key}: ${tensor.name} exceeds the binding limit`);
        }
        const resource = { buffer: tensor.buffer!, offset: tensor.offset, size: tensor.bytes };
        return { binding: i + 1, resource };
      });
      const size = program.uniformNames.length * 4;
      if (size > 0) entries.push({ binding: 0, resource: { buffer: this.#uniformBuffer, size } });
      group = this.device.createBindGroup({ layout: this.pipelines.get(program).layout, entries });
      this.#bindGroups.set(key, group);
    }
    return group;
  }
}

/**
 * Opens the GPU.
 *
 * @throws {UserError} where no adapter is found, saying what to install, or where it gives no device.
 */
export async function openGpu(options: GpuOptions = {}): Promise<Gpu> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new UserError(NO_ADAPTER);
  const { limits } = adapter;
  const requiredFeatures = (["shader-f16", "timestamp-query"] as const).filter((feature) =>
    adapter.features.has(feature) && (feature !== "timestamp-query" || options.profile)
  );
  const request = (features: readonly GPUFeatureName[]) =>
    adapter.requestDevice({
      requiredFeatures: [...features],
      requiredLimits: {
        maxBufferSize: limits.maxBufferSize,
        maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
        maxStorageBuffersPerShaderStage: Math.min(16, limits.maxStorageBuffersPerShaderStage),
        maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
        maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
        maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
        minUniformBufferOffsetAlignment: limits.minUniformBufferOffsetAlignment,
      },
    });
  // Deno's adapter does not list subgroups, though its device has them where the hardware does.
  const device = await request([...requiredFeatures, "subgroups"])
    .catch(() => request(requiredFeatures))
    .catch((error: Error) => {
      throw new UserError(`the GPU ${adapter.info.description} can't be opened: ${error.message}`);
    });
  return new Gpu(device, adapter, options);
}
