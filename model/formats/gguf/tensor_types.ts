/**
 * Types of tensors in GGUF files (`ggml_type`): their numbers, names and blocks.
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * @module
 */

/** The types that are read here. */
export type ReadType =
  | "F32"
  | "F16"
  | "BF16"
  | "Q8_0"
  | "Q4_0"
  | "Q4_1"
  | "Q5_0"
  | "Q5_1"
  | "Q4_K"
  | "Q5_K"
  | "Q6_K"
  | "IQ4_NL";

/** A type of tensor. Along a row, `elements` numbers are stored together in `bytes` bytes. */
export interface TensorType {
  readonly name: ReadType;
  readonly elements: number;
  readonly bytes: number;
}

/** Blocks that are written: the same memory as bytes and as f16 numbers. */
export interface BlockTarget {
  readonly bytes: Uint8Array;
  readonly halves: Float16Array;
}

/** Types that are read, by number. */
const READ: Readonly<Record<number, TensorType>> = {
  0: { name: "F32", elements: 1, bytes: 4 },
  1: { name: "F16", elements: 1, bytes: 2 },
  2: { name: "Q4_0", elements: 32, bytes: 18 },
  3: { name: "Q4_1", elements: 32, bytes: 20 },
  6: { name: "Q5_0", elements: 32, bytes: 22 },
  7: { name: "Q5_1", elements: 32, bytes: 24 },
  8: { name: "Q8_0", elements: 32, bytes: 34 },
  12: { name: "Q4_K", elements: 256, bytes: 144 },
  13: { name: "Q5_K", elements: 256, bytes: 176 },
  14: { name: "Q6_K", elements: 256, bytes: 210 },
  20: { name: "IQ4_NL", elements: 32, bytes: 18 },
  30: { name: "BF16", elements: 1, bytes: 2 },
};

/** Names of the others, for the message that refuses them. */
const OTHERS: Readonly<Record<number, string>> = {
  9: "Q8_1",
  10: "Q2_K",
  11: "Q3_K",
  15: "Q8_K",
  16: "IQ2_XXS",
  17: "IQ2_XS",
  18: "IQ3_XXS",
  19: "IQ1_S",
  21: "IQ3_S",
  22: "IQ2_S",
  23: "IQ4_XS",
  24: "I8",
  25: "I16",
  26: "I32",
  27: "I64",
  28: "F64",
  29: "IQ1_M",
  34: "TQ1_0",
  35: "TQ2_0",
  39: "MXFP4",
  40: "NVFP4",
  41: "Q1_0",
};

/** The type of a number; undefined where it is none that is read. */
export function tensorType(number: number): TensorType | undefined {
  return READ[number];
}

/** The number of a type. */
export function typeNumber(name: ReadType): number {
  return Number(Object.keys(READ).find((number) => READ[Number(number)].name === name));
}

/** Numbers in a block of a type. */
export function blockElements(name: ReadType): number {
  return READ[typeNumber(name)].elements;
}

/** Bytes of a tensor whose rows are whole blocks. */
export function storedBytes(name: ReadType, shape: readonly number[]): number {
  const { elements, bytes } = READ[typeNumber(name)];
  return shape.reduce((a, b) => a * b, 1) / elements * bytes;
}

/** What to call a type that is not read, and what is. */
export function unreadType(number: number): string {
  const names = Object.values(READ).map(({ name }) => name);
  return `type ${OTHERS[number] ?? number}, which is not read; expected ${names.join(", ")}`;
}
