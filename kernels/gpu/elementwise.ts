/**
 * The common parts of elementwise operations: the grid, the index, and slices of tensors that are too large to bind
 * at once. A "vector" is four neighbouring elements, which one thread handles.
 *
 * @module
 */
import type { Gpu } from "./gpu.ts";
import type { Cost } from "./work.ts";
import type { Program } from "./program.ts";
import { bytesOf, type Dtype, Tensor } from "./tensor.ts";

/** Threads of a workgroup. */
export const THREADS = 256;
/** WebGPU's limit for one dimension of a dispatch. */
const MAX_GROUPS = 65535;
/** Slices begin at multiples of this many elements: 256 bytes of f16, 512 of f32. */
const SLICE_UNIT = 128;

/** A grid of at least so many workgroups; a second dimension where the first is not enough. */
export function groupGrid(groups: number): [number, number] {
  const y = Math.ceil(groups / MAX_GROUPS);
  return y <= 1 ? [groups, 1] : [Math.ceil(groups / y), y];
}

/** Workgroups that give every vector a thread. */
export function elementGrid(vectors: number): [number, number] {
  return groupGrid(Math.ceil(vectors / THREADS));
}

/**
 * WGSL entry point that runs `body` once for each `i` below the uniform `vectors`, over the grid
 * of {@linkcode elementGrid}. Neighbouring threads get neighbouring vectors.
 */
export function elementMain(body: string): string {
  return `
@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (group.y * groups.x + group.x) * ${THREADS}u + thread;
  if (i >= u.vectors) { return; }
  ${body}
}`;
}

/** A piece of equally shaped tensors that can be bound at once. */
export interface BindableSlice {
  /** Views of the piece, in the order of the tensors. */
  tensors: Tensor[];
  /** First vector of the piece, counted from the tensors' start. */
  first: number;
  vectors: number;
}

/** Elements per slice of tensors of these dtypes under a binding limit of `maxBinding` bytes. */
export function sliceElements(dtypes: readonly Dtype[], maxBinding: number): number {
  const bytes = Math.max(...dtypes.map(bytesOf));
  const elements = Math.floor(maxBinding / (bytes * SLICE_UNIT)) * SLICE_UNIT;
  if (elements === 0) throw new Error(`a binding limit of ${maxBinding} bytes is too small`);
  return elements;
}

/**
 * Splits the first `size` elements of tensors into slices within `maxBinding`; where all tensors fit
 * there is one slice, the tensors themselves. Tensors may be allocated larger than `size`.
 */
export function bindableSlices(
  { maxBinding }: Pick<Gpu, "maxBinding">,
  tensors: readonly Tensor[],
  size: number,
): BindableSlice[] {
  for (const tensor of tensors) {
    if (tensor.size < size) {
      throw new Error(`${tensor.name} holds ${tensor.size} elements of ${size}`);
    }
  }
  if (tensors.every((tensor) => tensor.bytes <= maxBinding)) {
    return [{ tensors: [...tensors], first: 0, vectors: Math.ceil(size / 4) }];
  }
  const most = sliceElements(tensors.map((tensor) => tensor.dtype), maxBinding);
  const slices: BindableSlice[] = [];
  for (let start = 0; start < size; start += most) {
    slices.push({
      // Views depend on what is allocated, not on `size`, so runs of any length share them.
      tensors: tensors.map((tensor) => tensor.view([Math.min(most, tensor.size - start)], start)),
      first: start / 4,
      vectors: Math.ceil(Math.min(most, size - start) / 4),
    });
  }
  return slices;
}

/** Arguments of {@linkcode runElements}. */
export interface ElementRun {
  /** Elements to handle, from the tensors' start. */
  size: number;
  /** The index of the tensors' first element, a multiple of four. Default 0. */
  from?: number;
  uniforms?: Readonly<Record<string, number>>;
  /** Tensors that every slice sees whole, bound after the others. */
  shared?: readonly Tensor[];
  /** Work per element. */
  cost: Cost;
}

/**
 * Launches a program made with {@linkcode elementMain} on each slice of equally shaped tensors. The
 * uniforms `vectors` (of the slice) and `first` (its first vector), where declared, are filled in.
 */
export function runElements(
  gpu: Gpu,
  program: Program,
  tensors: readonly Tensor[],
  { size, from = 0, uniforms, shared = [], cost }: ElementRun,
): void {
  for (const slice of bindableSlices(gpu, tensors, size)) {
    const { vectors } = slice, first = slice.first + from / 4;
    gpu.run(
      program,
      [...slice.tensors, ...shared],
      { ...uniforms, first, vectors },
      elementGrid(vectors),
      { flops: cost.flops * 4 * vectors, bytes: cost.bytes * 4 * vectors },
    );
  }
}
