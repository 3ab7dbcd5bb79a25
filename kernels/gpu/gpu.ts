/**
 * The device: one object that knows the adapter, compiles programs, records launches and reads back.
 *
 * Launches are recorded into one compute pass and submitted in batches, so the GPU works while the
 * next batch is recorded. Nothing here waits for the GPU except {@linkcode Gpu.read} and
 * {@linkcode Gpu.finish}.
 *
 * @module
 */
import { UserError } from "../errors.ts";
import { restBeforeExit } from "./rest.ts";
import { type Cost, launchUse, type Use, type Work } from "./work.ts";
import { compilersFor } from "./compilers.ts";
import { type DeviceProfile, deviceProfile } from "./device_profile.ts";
import { pollEventLoop, whileReported } from "./event_loop.ts";
import { type LimitsName, limitsName, openDevice } from "./limits.ts";
import { Memory } from "./memory.ts";
import { Pipelines } from "./pipelines.ts";
import { Profiler } from "./profiler.ts";
import type { Extension, Program } from "./program.ts";
import { type Choice, chooseAdapter, type ProviderName } from "./providers/choose.ts";
import type { Provider } from "./providers/provider.ts";
import { Readback, STAGING_BYTES } from "./readback.ts";
import { Recorder, UNIFORM_BYTES, type Uniforms } from "./recorder.ts";
import type { MatrixName } from "./subgroup_matrix.ts";
import { allocated, Tensor } from "./tensor.ts";
import { uploadMemories, type UploadMemory } from "./upload.ts";

/** Bytes of workspace that an open device takes for itself, for plans. */
export const FIXED_WORKSPACE = UNIFORM_BYTES + STAGING_BYTES;

/** Options of {@linkcode openGpu}. */
export interface GpuOptions {
  /** Which WebGPU; see {@linkcode chooseAdapter} for `auto`, the default. */
  provider?: ProviderName;
  /** What the run computes in, by which `auto` chooses. */
  precision?: "fp32" | "mixed";
  /** Measure every launch (slower). */
  profile?: boolean;
  /** Pretend the adapter binds no more than this many bytes at once (tests of split tensors). */
  maxBinding?: number;
  /** Take the programs for software drivers, or those for GPUs, whatever the adapter (tests). */
  software?: boolean;
  /** Emulate subgroup matrices where the adapter has none (tests). */
  matrices?: "emulated";
  /** Devices that compile beside this one. Default: as many as pay. */
  compilers?: number;
  /** Limits and features to ask of the adapter. Default: those that LORIKEET_LIMITS names, or all that it has. */
  limits?: LimitsName;
}

/** An open device. */
export class Gpu {
  readonly memory: Memory;
  readonly pipelines: Pipelines;
  readonly provider: Provider["name"];
  /** Why this provider, in a few words. */
  readonly reason: string;
  /** The adapter's name as its driver gives it. */
  readonly name: string;
  /** True for a software driver such as Mesa's lavapipe. */
  readonly software: boolean;
  /** What is known of the device, for the choice of tiles and grids. */
  readonly profile: DeviceProfile;
  /** Largest range one binding may cover, in bytes. */
  readonly maxBinding: number;
  /** Storage buffers that one program may be bound to. */
  readonly maxBindings: number;
  /** What programs may use beyond WGSL's core. */
  readonly extensions: ReadonlySet<Extension>;
  /** Matrices that subgroups multiply, where programs may use their extensions. */
  readonly matrices?: MatrixName;
  readonly profiler?: Profiler;

  readonly #provider: Provider;
  readonly #recorder: Recorder;
  /** Everything that is recorded while {@linkcode trace} runs. */
  #trace?: Use[];
  readonly #readback: Readback;
  #reading = false;
  #scratch?: Tensor;
  #failure?: Error;
  #closed = false;
  readonly #rested: () => void;

  constructor(
    readonly device: GPUDevice,
    choice: Choice,
    options: GpuOptions,
  ) {
    const { provider, adapter, reason } = choice, { limits } = device;
    this.#rested = restBeforeExit(() => this[Symbol.asyncDispose]());
    this.provider = provider.name;
    this.#provider = provider;
    const compilers = compilersFor(choice, limitsName(options.limits), options.compilers);
    this.pipelines = new Pipelines(device, provider, compilers);
    this.extensions = new Set(
      provider.extensions(adapter).filter(([, feature]) => device.features.has(feature))
        .map(([name]) => name),
    );
    if (this.extensions.has("subgroup_matrix")) this.matrices = provider.matrices(adapter);
    this.matrices ??= options.matrices;
    this.name = provider.adapterName(adapter);
    this.software = options.software ?? /llvmpipe|lavapipe|swiftshader/i.test(this.name);
    this.profile = deviceProfile(device, this);
    this.reason = reason;
    // In whole vectors of 16 bytes, which kernels read.
    const most = Math.min(limits.maxStorageBufferBindingSize, options.maxBinding ?? Infinity);
    this.maxBinding = most - most % 16;
    this.maxBindings = limits.maxStorageBuffersPerShaderStage;
    this.memory = new Memory(device, {
      maxBufferSize: limits.maxBufferSize,
      maxBinding: this.maxBinding,
    });
    this.#readback = new Readback(device, this.memory);
    if (options.profile && device.features.has("timestamp-query")) {
      this.profiler = new Profiler(device);
    }
    this.#recorder = new Recorder({
      device,
      bind: provider.bind,
      pipelines: this.pipelines,
      memory: this.memory,
      maxBinding: this.maxBinding,
      profiler: this.profiler,
    });
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { error } = event as GPUUncapturedErrorEvent;
      // By name: each implementation has classes of its own.
      this.#failure ??= error.constructor.name === "GPUOutOfMemoryError"
        ? new UserError(`the GPU is out of memory: ${error.message}`)
        : new Error(error.message);
    });
    device.lost.then((info) => {
      // `info` is not read after `close`, when Dawn may have freed it.
      if (this.#closed) return;
      this.#failure ??= new UserError(`the GPU device was lost: ${info.message}`);
    });
  }

  /** What was launched so far; precompilations don't count. */
  get work(): Work {
    return { ...this.#recorder.work };
  }

  /** Records one launch of `program`. Tensors are bound in the order of the program's bindings. */
  run(
    program: Program,
    tensors: readonly Tensor[],
    uniforms: Uniforms,
    workgroups: readonly [number, number?, number?],
    cost?: Cost,
  ): void {
    const [x, y, z] = workgroups;
    if (x === 0 || y === 0 || z === 0) return;
    if (this.pipelines.listed !== undefined) return void this.pipelines.listed.add(program);
    this.#trace?.push(launchUse(program, tensors, cost));
    this.#recorder.launch(program, tensors, uniforms, workgroups, cost);
  }

  /**
   * Compiles the programs that `body` launches, as {@linkcode Pipelines.compile} does. Nothing is launched, copied,
   * cleared or written in it, so that its tensors need no memory.
   *
   * @returns the number of programs compiled, when all are ready.
   * @throws as {@linkcode check} does, and where `body` reads.
   */
  async precompile(body: () => void, between?: () => Promise<void>): Promise<number> {
    const listed = this.pipelines.listed = new Set<Program>();
    try {
      body();
    } finally {
      this.pipelines.listed = undefined;
    }
    return await this.pipelines.compile(
      listed,
      between && (() => between().then(() => this.check())),
    );
  }

  /** What `body` does with memory, in order. It runs as always. */
  async trace(body: () => unknown): Promise<Use[]> {
    const uses: Use[] = this.#trace = [];
    try {
      await body();
    } finally {
      this.#trace = undefined;
    }
    return uses;
  }

  /**
   * Records a copy of all of `from` to the start of `to`, which lies in another buffer. The copy ends the compute
   * pass; a launch copies faster what fits a binding, see `copy` of ops/elements/bytes.ts.
   */
  copyBuffer(from: Tensor, to: Tensor): void {
    if (this.pipelines.listed !== undefined) return;
    this.#trace?.push({ name: "copy", reads: [from], writes: [to] });
    this.#recorder.encoder()
      .copyBufferToBuffer(
        allocated(from.buffer, from.name),
        from.offset,
        allocated(to.buffer, to.name),
        to.offset,
        from.bytes,
      );
  }

  /** Records filling a tensor with zeros in the same way. */
  clearBuffer(tensor: Tensor): void {
    if (this.pipelines.listed !== undefined) return;
    this.#trace?.push({ name: "clear", reads: [], writes: [tensor] });
    this.#recorder.encoder().clearBuffer(
      allocated(tensor.buffer, tensor.name),
      tensor.offset,
      tensor.bytes,
    );
  }

  /**
   * Writes host data to a tensor, after everything recorded so far.
   *
   * @param first Element of the tensor, of four bytes each, that the data begins at.
   */
  write(
    tensor: Tensor,
    data: Uint32Array | Float32Array | Uint8Array | Uint16Array,
    first = 0,
  ): void {
    if (4 * first + data.byteLength > tensor.bytes) {
      throw new Error(`${tensor.name}: ${data.byteLength} bytes do not fit ${tensor.bytes}`);
    }
    if (this.pipelines.listed !== undefined) return;
    this.#trace?.push({ name: "write", reads: [], writes: [tensor] });
    const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
    const buffer = allocated(tensor.buffer, tensor.name);
    this.#recorder.write(buffer, tensor.offset + 4 * first, bytes);
  }

  /** Memories to fill with up to so many bytes each, which {@linkcode write} then takes. */
  uploadMemories(bytes: number): UploadMemory[] {
    const map = this.#provider.mapMemory;
    return uploadMemories(this.device, bytes, map && { map, flush: () => this.flush() });
  }

  /** Working memory for one launch and the next: an f32 tensor of at least `bytes` bytes. */
  scratch(bytes: number): Tensor {
    if (this.pipelines.listed !== undefined) {
      return new Tensor("scratch", "f32", [bytes / 4], undefined);
    }
    if (this.#scratch === undefined || this.#scratch.bytes < bytes) {
      if (this.#scratch !== undefined) this.free(this.#scratch);
      this.#scratch = this.memory.tensor("workspace", "scratch", "f32", [bytes / 4]);
    }
    return this.#scratch;
  }

  /** Submits what is recorded and what was written; otherwise writes wait for the next submission. */
  send(): void {
    this.flush();
    this.#recorder.release();
    this.device.queue.submit([]);
  }

  /** Submits what is recorded. */
  flush(): void {
    this.#recorder.submit();
  }

  /**
   * Reads a tensor's bytes, waiting for the GPU.
   *
   * @param overlap Called while the GPU works on what was recorded so far: what it records follows at once,
   *   without a wait for the host, and is not seen by this reading. The tensor has up to {@linkcode STAGING_BYTES}.
   * @throws the first error that the device has reported; a {@linkcode UserError} where it was lost, ran
   * out of memory or refused a program.
   */
  async read(tensor: Tensor, overlap?: () => void): Promise<ArrayBuffer> {
    const out = new Uint8Array(tensor.bytes);
    await this.readInto(tensor, out, overlap);
    return out.buffer;
  }

  /** The same into memory that is there already: new memory takes the system longer than the copy. */
  async readInto(
    tensor: Tensor,
    target: Uint8Array<ArrayBuffer>,
    overlap?: () => void,
  ): Promise<void> {
    const out = target.subarray(0, tensor.bytes);
    if (overlap && out.length > STAGING_BYTES) throw new Error(`${tensor.name} is too large`);
    if (this.pipelines.listed !== undefined) {
      throw new Error(`${tensor.name} can't be read while programs are precompiled`);
    }
    if (this.#reading) throw new Error(`${tensor.name} can't be read while another reading waits`);
    const staging = this.#readback.staging(out.length);
    const { launches } = this.#recorder.work;
    this.#reading = true;
    try {
      for (let done = 0; done < out.length; done += staging.bytes) {
        const bytes = Math.min(staging.bytes, out.length - done);
        this.#recorder.encoder()
          .copyBufferToBuffer(
            allocated(tensor.buffer, tensor.name),
            tensor.offset + done,
            staging.buffer,
            0,
            bytes,
          );
        this.flush();
        if (overlap !== undefined) {
          if (!this.#provider.mapsInOrder) this.#recorder.defer();
          overlap();
          this.flush();
        }
        await this.check();
        const range = await this.#provider.map(staging.buffer, bytes).catch((error) =>
          this.#explain(error)
        );
        this.#recorder.release();
        out.set(new Uint8Array(range), done);
        staging.buffer.unmap();
      }
    } finally {
      this.#recorder.release();
      this.#reading = false;
    }
    if (this.#recorder.work.launches === launches) this.#recorder.idle();
    await pollEventLoop();
    await this.check();
  }

  /** Reads an f32 tensor, as {@linkcode read} does. */
  async readF32(tensor: Tensor, overlap?: () => void): Promise<Float32Array<ArrayBuffer>> {
    return new Float32Array(await this.read(tensor, overlap), 0, tensor.size);
  }

  /** Waits until the GPU has done everything submitted. */
  async finish(): Promise<void> {
    this.flush();
    this.#recorder.release();
    await this.#provider.finish(this.device.queue);
    await this.check();
  }

  /** Throws the first error that the device has reported, and where it was closed. */
  async check(): Promise<void> {
    if (this.#closed) throw new Error("the GPU is used after it was closed");
    await this.pipelines.check();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Frees a tensor's whole buffer. Other tensors of the same arena go with it. */
  free(tensor: Tensor): void {
    if (tensor.buffer === undefined) return;
    this.flush();
    this.#recorder.release();
    this.#recorder.forget();
    this.memory.free(tensor.buffer);
  }

  /** Gives the device back. */
  close(): void {
    this.#closed = true;
    this.pipelines.end();
    this.#rested();
    // wgpu keeps a destroyed device's buffers until the garbage collector finds them.
    this.memory.freeAll();
    this.#readback.destroy();
    this.device.destroy();
  }

  /** Waits until the GPU has done everything submitted, and gives the device back. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#provider.finish(this.device.queue);
    this.close();
  }

  /**
   * Throws the device's report of a failed call, which says more than the call's error, or this error without a
   * report.
   */
  async #explain(error: unknown): Promise<never> {
    await whileReported(() => this.check());
    throw error;
  }
}

/**
 * Opens the GPU.
 *
 * @throws {UserError} where there is no adapter, or it gives no device; and as {@linkcode limitsName} does.
 */
export async function openGpu(options: GpuOptions = {}): Promise<Gpu> {
  const limits = limitsName(options.limits);
  const choice = await chooseAdapter(options.provider, options.precision);
  const device = await openDevice(choice, { limits, timestamps: options.profile ?? false });
  return new Gpu(device, choice, options);
}
