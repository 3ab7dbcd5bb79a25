/**
 * Records launches and copies into command buffers and hands them to the GPU in batches, so that the GPU
 * works while the next batch is recorded. A launch costs the host 3 to 4 µs on either WebGPU, nearly all of it spent in
 * WebGPU itself: pipelines and bind groups are cached, and uniforms go into one buffer.
 *
 * @module
 */
import type { Cost, Work } from "./work.ts";
import type { Memory } from "./memory.ts";
import type { Pipelines } from "./pipelines.ts";
import type { Profiler } from "./profiler.ts";
import type { Program } from "./program.ts";
import type { Provider } from "./providers/provider.ts";
import { allocated, type Tensor } from "./tensor.ts";
import { mappedMemory } from "./upload.ts";

/** Bytes of the uniforms of one batch. */
export const UNIFORM_BYTES = 1 << 18;
/** Launches recorded before they are handed to the GPU. */
const LAUNCHES_PER_SUBMIT = 400;
/** The same where the GPU has nothing to do; from one batch to the next it doubles. */
const FIRST_LAUNCHES = 25;

/** Submissions and writes that are deferred at most: they take memory of the host. */
const MOST_DEFERRED = 256;

/** Values of a program's uniforms, by name. */
export type Uniforms = Readonly<Record<string, number>>;

/** Bind groups by the tensors that they bind, one level a binding. */
class Groups {
  readonly next = new Map<number, Groups>();
  group?: GPUBindGroup;
}

/** What a {@linkcode Recorder} works with. */
export interface RecorderParts {
  device: GPUDevice;
  bind: Provider["bind"];
  pipelines: Pipelines;
  /** Where the buffer of uniforms comes from. */
  memory: Memory;
  /** Largest range that a binding may cover, in bytes. */
  maxBinding: number;
  profiler?: Profiler;
}

/** Where launches are recorded. */
export class Recorder {
  /** By program id. */
  #groups: Groups[] = [];
  readonly #alignment: number;
  readonly #buffer: GPUBuffer;
  readonly #data = new ArrayBuffer(UNIFORM_BYTES);
  readonly #u32 = new Uint32Array(this.#data);
  readonly #f32 = new Float32Array(this.#data);
  /** Bytes of uniforms recorded. */
  #used = 0;
  /** What was recorded so far. */
  readonly work: Work = { launches: 0, flops: 0, bytes: 0 };
  /** Submissions and writes that are deferred, in order. */
  #deferred?: (() => void)[];
  readonly #bind: Provider["bind"];
  #encoder?: GPUCommandEncoder;
  #pass?: GPUComputePassEncoder;
  #program?: Program;
  #launches = 0;
  #mostLaunches = FIRST_LAUNCHES;

  readonly device: GPUDevice;
  readonly pipelines: Pipelines;
  readonly maxBinding: number;
  readonly profiler?: Profiler;

  constructor({ device, bind, pipelines, memory, maxBinding, profiler }: RecorderParts) {
    this.device = device;
    this.pipelines = pipelines;
    this.maxBinding = maxBinding;
    this.profiler = profiler;
    this.#bind = bind;
    this.#alignment = device.limits.minUniformBufferOffsetAlignment;
    const usage = GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST;
    this.#buffer = allocated(
      memory.buffer("workspace", "uniforms", UNIFORM_BYTES, usage),
      "uniforms",
    );
  }

  /** Records one launch of `x`·`y`·`z` workgroups. */
  launch(
    program: Program,
    tensors: readonly Tensor[],
    uniforms: Uniforms,
    [x, y = 1, z = 1]: readonly [number, number?, number?],
    cost?: Cost,
  ): void {
    const size = program.uniformNames.length * 4;
    if (this.#launches >= this.#most() || this.#used + size > UNIFORM_BYTES) this.submit();
    const group = this.#group(program, tensors);
    this.#writeUniforms(program, uniforms);
    if (this.profiler?.granularity === "launches") this.#endPass();
    const pass = this.#pass ??= this.#beginPass(program, cost);
    if (this.#program !== program) {
      pass.setPipeline(this.pipelines.get(program).pipeline);
      this.#program = program;
    }
    if (size > 0) this.#bind(pass, group, this.#used);
    else pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(x, y, z);
    this.#launches++;
    this.work.launches++;
    if (cost !== undefined) {
      this.work.flops += cost.flops;
      this.work.bytes += cost.bytes;
    }
    this.#used += Math.ceil(size / this.#alignment) * this.#alignment;
  }

  /** The encoder of the batch, outside of a pass, for copies and the like. */
  encoder(): GPUCommandEncoder {
    this.#endPass();
    return this.#encoder ??= this.device.createCommandEncoder();
  }

  /** Hands what is recorded to the GPU, or defers it until {@linkcode release}. */
  submit(): void {
    if (this.#encoder === undefined) return;
    this.#endPass();
    this.profiler?.resolve(this.#encoder);
    const commands = [this.#encoder.finish()], { queue } = this.device;
    if (this.#used > 0) this.#send(this.#buffer, 0, new Uint8Array(this.#data, 0, this.#used));
    if (this.#deferred === undefined) queue.submit(commands);
    else this.#deferred.push(() => queue.submit(commands));
    this.#encoder = undefined;
    this.#launches = 0;
    this.#used = 0;
    this.#mostLaunches = Math.min(2 * this.#mostLaunches, LAUNCHES_PER_SUBMIT);
    this.profiler?.collect();
    if (this.#deferred !== undefined && this.#deferred.length > MOST_DEFERRED) this.release();
  }

  /** Writes to a buffer after everything recorded so far, padded with zeros to whole words. */
  write(buffer: GPUBuffer, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    const memory = mappedMemory(bytes);
    if (memory !== undefined) return memory.copy(this.encoder(), bytes, buffer, offset);
    this.submit();
    const whole = bytes.length & ~3;
    if (whole > 0) this.#send(buffer, offset, bytes.subarray(0, whole));
    if (whole === bytes.length) return;
    const tail = new Uint8Array(4);
    tail.set(bytes.subarray(whole));
    this.#send(buffer, offset + whole, tail);
  }

  #send(buffer: GPUBuffer, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    const { queue } = this.device;
    if (this.#deferred === undefined) return queue.writeBuffer(buffer, offset, bytes);
    const copied = bytes.slice();
    this.#deferred.push(() => queue.writeBuffer(buffer, offset, copied));
  }

  /** Defers from now on what would go to the GPU, except where launches are measured. */
  defer(): void {
    if ((this.profiler?.granularity ?? "nothing") === "nothing") this.#deferred ??= [];
  }

  /** Hands what was deferred to the GPU. */
  release(): void {
    const deferred = this.#deferred;
    this.#deferred = undefined;
    deferred?.forEach((send) => send());
  }

  /** Launches of the batch that is being recorded; one that is measured stays whole. */
  #most(): number {
    const measuring = (this.profiler?.granularity ?? "nothing") !== "nothing";
    return measuring ? LAUNCHES_PER_SUBMIT : this.#mostLaunches;
  }

  /** Called when the GPU has done all its work and waits. */
  idle(): void {
    this.#mostLaunches = FIRST_LAUNCHES;
  }

  /** Forgets all bind groups, as some of their tensors are to be freed. */
  forget(): void {
    this.#groups = [];
  }

  #beginPass(program: Program, cost?: Cost): GPUComputePassEncoder {
    this.#encoder ??= this.device.createCommandEncoder();
    return this.#encoder.beginComputePass(this.profiler?.beginPass(program.key, cost));
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = undefined;
    this.#program = undefined;
  }

  #writeUniforms({ key, uniforms: types, uniformNames }: Program, uniforms: Uniforms): void {
    let word = this.#used >> 2;
    for (const name of uniformNames) {
      const value = uniforms[name];
      if (value === undefined) throw new Error(`${key}: uniform ${name} is missing`);
      if (types[name] === "u32") this.#u32[word++] = value;
      else this.#f32[word++] = value;
    }
  }

  #group(program: Program, tensors: readonly Tensor[]): GPUBindGroup {
    let groups = this.#groups[program.id] ??= new Groups();
    for (const { id } of tensors) {
      let next = groups.next.get(id);
      if (next === undefined) groups.next.set(id, next = new Groups());
      groups = next;
    }
    return groups.group ??= this.#makeGroup(program, tensors);
  }

  #makeGroup(program: Program, tensors: readonly Tensor[]): GPUBindGroup {
    const { key, bindings } = program;
    if (tensors.length !== bindings.length) {
      throw new Error(`${key}: ${bindings.length} tensors expected`);
    }
    const entries: GPUBindGroupEntry[] = tensors.map((tensor, i) => {
      const { name, dtype } = bindings[i];
      if (tensor.dtype !== dtype) {
        throw new Error(`${key}: ${name} is ${dtype}, ${tensor.name} is ${tensor.dtype}`);
      }
      if (tensor.bytes > this.maxBinding) {
        throw new Error(`${key}: ${tensor.name} exceeds the binding limit`);
      }
      const resource = {
        buffer: allocated(tensor.buffer, tensor.name),
        offset: tensor.offset,
        size: tensor.bytes,
      };
      return { binding: i + 1, resource };
    });
    const size = program.uniformNames.length * 4;
    if (size > 0) entries.push({ binding: 0, resource: { buffer: this.#buffer, size } });
    return this.device.createBindGroup({ layout: this.pipelines.get(program).layout, entries });
  }
}
