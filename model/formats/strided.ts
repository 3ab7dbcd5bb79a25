/**
 * Tensors whose elements do not lie in row-major order, as PyTorch saves a transposed matrix or a slice of its
 * columns: read as if they did.
 *
 * @module
 */

/** Where a tensor's elements lie. */
export interface Strided {
  shape: readonly number[];
  /** In elements, from one index to the next along each axis; positive. */
  stride: readonly number[];
}

/** A stretch of elements to be read, and where each goes. All in elements. */
export interface Run {
  /** From the tensor's first element in the file. */
  from: number;
  /** How many lie there, those between the wanted ones included. */
  span: number;
  /** From one wanted element to the next in the file. */
  step: number;
  /** Where the first goes, counted from the tensor's first in row-major order; may lie before what was asked. */
  to: number;
  /** From one to the next there. */
  stride: number;
  count: number;
}

/** Whether the elements lie one after the other; the stride of a size of 1 is never used. */
export function isRowMajor(shape: readonly number[], stride: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && stride[axis] !== expected) return shape.includes(0);
    expected *= shape[axis];
  }
  return true;
}

/** How many elements lie from a tensor's first to its last in the file. */
export function spanOf({ shape, stride }: Strided): number {
  if (shape.includes(0)) return 0;
  return shape.reduce((span, size, axis) => span + (size - 1) * stride[axis], 1);
}

/**
 * The stretches of the file that hold the elements `first` to before `last` of the row-major order. Whole slices
 * along the first axis are gone through, each along the axis whose elements lie closest together: of a transposed
 * matrix that is one stretch for each column, not one for each element.
 */
export function* stridedRuns(
  { shape, stride }: Strided,
  first: number,
  last: number,
): Generator<Run> {
  const slice = shape.slice(1).reduce((a, b) => a * b, 1);
  const begin = Math.floor(first / slice), end = Math.ceil(last / slice);
  const sizes = [end - begin, ...shape.slice(1)];
  const rowMajor = sizes.map((_, axis) => sizes.slice(axis + 1).reduce((a, b) => a * b, 1));
  let run = 0;
  sizes.forEach((size, axis) => {
    if (size > 1 && (sizes[run] === 1 || stride[axis] < stride[run])) run = axis;
  });
  const count = sizes[run], step = count > 1 ? stride[run] : 1;
  const total = sizes.reduce((a, b) => a * b, 1);
  const index = sizes.map(() => 0);
  let from = begin * stride[0], to = begin * slice;
  for (let done = 0; done < total; done += count) {
    yield { from, span: (count - 1) * step + 1, step, to, stride: rowMajor[run], count };
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      if (axis === run) continue;
      from += stride[axis];
      to += rowMajor[axis];
      if (++index[axis] < sizes[axis]) break;
      from -= sizes[axis] * stride[axis];
      to -= sizes[axis] * rowMajor[axis];
      index[axis] = 0;
    }
  }
}

/**
 * Copies what a run brought to where it goes.
 *
 * @param bytes The run's span.
 * @param target Bytes of the elements from `first` on; what lies outside of it is left out.
 */
export function placeRun(
  run: Run,
  bytes: Uint8Array,
  { unit, first, target }: { unit: number; first: number; target: Uint8Array },
): void {
  const limit = target.length / unit;
  // The indices whose place lies in the target.
  const low = Math.max(0, Math.ceil((first - run.to) / run.stride));
  const high = Math.min(run.count, Math.ceil((first + limit - run.to) / run.stride));
  for (let i = low; i < high; i++) {
    const source = i * run.step * unit, place = (run.to + i * run.stride - first) * unit;
    for (let byte = 0; byte < unit; byte++) target[place + byte] = bytes[source + byte];
  }
}
