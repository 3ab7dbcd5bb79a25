/**
 * Memory that the host fills with what goes to the GPU: of its own, which the queue copies, or that of a mapped buffer,
 * which files are read into and the GPU copies from. Then this thread, which could copy only so fast, has nothing to do
 * with it.
 *
 * @module
 */
import { roundUp } from "./tensor.ts";

/** Memory to be filled, sent and filled again. */
export interface UploadMemory extends Disposable {
  /** Its memory, once it may be filled: when what was sent of it is there. */
  ready(): Promise<Uint8Array<ArrayBuffer>>;
}

/** Memories of the host, and mapped ones, which also wait for the GPU. Tensors are of different sizes: of fewer, small ones would hold up large ones. */
const HOST_MEMORIES = 8, MAPPED_MEMORIES = 16;

/** Memory of the host. */
class HostMemory implements UploadMemory {
  readonly #bytes: Uint8Array<ArrayBuffer>;

  constructor(size: number) {
    this.#bytes = new Uint8Array(size);
  }

  ready(): Promise<Uint8Array<ArrayBuffer>> {
    return Promise.resolve(this.#bytes);
  }

  [Symbol.dispose](): void {}
}

/** The mapped buffers by their memory. */
const mapped = new WeakMap<ArrayBuffer, MappedMemory>();

/** Memory of a buffer, where that of a mapped one is its own. */
class MappedMemory implements UploadMemory {
  readonly #buffer: GPUBuffer;
  #bytes?: Uint8Array<ArrayBuffer>;

  constructor(device: GPUDevice, size: number, readonly maps: Maps) {
    const usage = GPUBufferUsage.MAP_WRITE | GPUBufferUsage.COPY_SRC;
    const options = { label: "upload", size: roundUp(size, 4), usage, mappedAtCreation: true };
    this.#buffer = device.createBuffer(options);
    this.#took(this.#buffer.getMappedRange());
  }

  async ready(): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#bytes !== undefined) return this.#bytes;
    this.maps.flush();
    return this.#took(await this.maps.map(this.#buffer));
  }

  /** Records a copy of bytes of its memory, which may not be touched from now on. They are padded to whole words. */
  copy(encoder: GPUCommandEncoder, bytes: Uint8Array, to: GPUBuffer, offset: number): void {
    const { buffer, byteOffset, length } = bytes, padded = roundUp(length, 4);
    new Uint8Array(buffer, byteOffset + length, padded - length).fill(0);
    this.#buffer.unmap();
    this.#bytes = undefined;
    encoder.copyBufferToBuffer(this.#buffer, byteOffset, to, offset, padded);
  }

  #took(range: ArrayBuffer): Uint8Array<ArrayBuffer> {
    mapped.set(range, this);
    return this.#bytes = new Uint8Array(range);
  }

  [Symbol.dispose](): void {
    this.#buffer.destroy();
  }
}

/** The mapped buffer whose memory these bytes are. */
export function mappedMemory({ buffer }: Uint8Array<ArrayBuffer>): MappedMemory | undefined {
  return mapped.get(buffer);
}

/** How mapped memory is had. */
interface Maps {
  map: (buffer: GPUBuffer) => Promise<ArrayBuffer>;
  /** Submits what is recorded: a buffer is mapped once its copies are done. */
  flush: () => void;
}

/** Memories of so many bytes each. */
export function uploadMemories(
  device: GPUDevice,
  size: number,
  maps: Maps | undefined,
): UploadMemory[] {
  return maps === undefined
    ? Array.from({ length: HOST_MEMORIES }, () => new HostMemory(size))
    : Array.from({ length: MAPPED_MEMORIES }, () => new MappedMemory(device, size, maps));
}
