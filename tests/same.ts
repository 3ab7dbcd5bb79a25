/**
 * Whether arrays are the same, bit for bit. To tell how two arrays differ, assert.deepEqual takes memory that is
 * quadratic in their differences: tens of GB for 35,000 numbers.
 *
 * @module
 */
import assert from "node:assert/strict";

type Numbers = Uint8Array | Uint16Array | Uint32Array | Float16Array | Float32Array | Float64Array;

/** Asserts arrays of one type to be the same; names the first element that differs. */
export function assertSameValues(actual: Numbers, expected: Numbers, what: string): void {
  const kindOf = ({ constructor, length }: Numbers) => `${length} numbers in ${constructor.name}`;
  assert.equal(kindOf(actual), kindOf(expected), what);
  const bytesOf = ({ buffer, byteOffset, byteLength }: Numbers) =>
    new Uint8Array(buffer, byteOffset, byteLength);
  const a = bytesOf(actual), e = bytesOf(expected);
  for (let at = 0; at < e.length; at++) {
    if (a[at] === e[at]) continue;
    const i = Math.floor(at / expected.BYTES_PER_ELEMENT);
    assert.fail(`${what}[${i}]: got ${actual[i]}, expected ${expected[i]}`);
  }
}

/** Asserts two sets of arrays to be the same, in the same order. */
export function assertSameTensors(
  actual: ReadonlyMap<string, Numbers>,
  expected: ReadonlyMap<string, Numbers>,
): void {
  assert.deepEqual([...actual.keys()], [...expected.keys()]);
  for (const [name, values] of actual) {
    assertSameValues(values, expected.get(name) ?? assert.fail(name), name);
  }
}
