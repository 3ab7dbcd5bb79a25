/**
 * A kind of weights, in a form that every product can read: the tensors that hold a matrix, and WGSL that loads
 * neighbouring values of it.
 *
 * A matrix `[rows, columns]` is read by the index of a load of 4 or 8 values, counted over the whole matrix row by row:
 * load i of width 4 has the values 4i to 4i + 3. A product first loads into registers and unpacks these later, when
 * they have arrived. Both orientations of a product read the same way: what differs is which index follows which.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Binding } from "../../gpu/program.ts";
import type { Dtype, Tensor } from "../../gpu/tensor.ts";
import type { RawDtype } from "../elements/cast.ts";
import type { Float } from "../numerics.ts";

/** Values of one load. */
export type LoadWidth = 4 | 8;

/** The registers of a load until it is unpacked. */
export interface Registers {
  type: "vec2<u32>" | "vec4<u32>" | "vec4<f32>";
  count: 1 | 2;
}

/** Values of a load in products of few rows. */
export type RowLoadWidth = LoadWidth | 16;

/**
 * How products of few rows load a matrix, whose time is that of loading it once: a thread reads along a row, in loads
 * as wide as memory serves best.
 */
export interface RowLoad {
  /** Functions and types that the other expressions use. */
  functions: string;
  /** The type of a load's registers. */
  type: string;
  /** The registers of load `index`, a WGSL expression. */
  load(index: string): string;
  /**
   * Statements that return the sum of products of a load's values with x, as many `vec4<f32>` as it has fours; without
   * the scale.
   */
  product(x: readonly string[], registers: string): string;
  /** What the values are multiplied by, where that is one number for a load. */
  scale?: RowScale;
}

/**
 * How tiles on tensor cores load eight values at once, where neighbouring loads have one scale: each thread makes some of
 * the scales, and has the others from its neighbours.
 */
export interface TileLoad extends RowLoad {
  scale: RowScale;
  /** The values of a load with their scale as packed halves, a `vec4<u32>`. Registers of zeros are zeros. */
  halves(registers: string, scale: string): string;
}

/** How products of few rows load the scale of a load. */
export interface RowScale {
  /** Loads that have the same, from the first of a row on: a power of two. */
  loads: number;
  /** The type of its registers. */
  type: string;
  /** The registers of load `index`, a WGSL expression: what memory has, as nothing may wait for it yet. */
  load(index: string): string;
  /** The scale, f32, of registers. */
  value(registers: string): string;
}

/** One of the tensors of a matrix. */
export interface Plane {
  /** Added to the matrix's name, "" for the first. */
  suffix: string;
  dtype: Dtype;
  /** So many values of the matrix, counted row by row, are in so many elements of the tensor. */
  values: number;
  elements: number;
}

/** Elements of a plane of a matrix with so many values; the last ones may stand for fewer values. */
export function planeSize(plane: Plane, values: number): number {
  return isTable(plane) ? plane.elements : Math.ceil(values / plane.values) * plane.elements;
}

/** Whether a plane is the same for all matrices with so many columns: a table, which belongs to all values. */
export function isTable({ values }: Plane): boolean {
  return values === Infinity;
}

/** Values on their way into a weight: `count` little-endian elements, raw from the start of `words`. */
export interface EncodedPiece {
  words: Tensor;
  from: RawDtype;
  /** Where they go: the value of the matrix, counted row by row. A multiple of {@linkcode Encoder.unit}. */
  first: number;
  count: number;
  /** Values of the whole matrix, of which the pieces come in order. */
  values: number;
  /** Working memory of {@linkcode Encoder.workElements} f32 elements, which lasts from piece to piece. */
  work?: Tensor;
}

/** How values become weights of a kind. */
export interface Encoder {
  /** Pieces begin at multiples of so many values, of a matrix with so many columns. */
  unit(columns: number): number;
  /** Elements of the working memory that a matrix of so many values takes. */
  workElements(values: number): number;
  /** Writes values into the tensors of a matrix, in their order. */
  encode(gpu: Gpu, tensors: readonly Tensor[], piece: EncodedPiece): void;
}

/** A flag of several, u32. */
export interface FlagPlace {
  flags: Tensor;
  slot: number;
}

/** A kind of weights. */
export interface WeightKind {
  /** Its name in settings and in the keys of programs. */
  readonly name: string;
  /**
   * The element type, where every value is an element of the only tensor: then it may be trained and written value by
   * value, and files of that type are copied as they are. Weights of another kind are frozen matrices.
   */
  readonly element?: Float;
  /** Absent where weights are only taken as a file holds them: what made the file had more to choose by than values. */
  readonly encoder?: Encoder;
  /**
   * The tensors of a matrix with so many columns.
   *
   * @throws {Error} where it can't hold such a matrix; see {@linkcode WeightKind.columnUnit}.
   */
  planes(columns: number): readonly Plane[];
  /** Columns of a matrix are a multiple of it. */
  readonly columnUnit: number;
  /** Writes the tables, where there are any, before anything else is written. */
  writeTables?(gpu: Gpu, tensors: readonly Tensor[]): void;
  /** Sets a flag to 1 where a matrix has values that are no finite numbers, or had them before it was encoded. */
  flagNotFinite(gpu: Gpu, tensors: readonly Tensor[], place: FlagPlace): void;

  /** Bindings of the tensors for loads of one width, also of a {@linkcode rowLoad}, the first of which is called `name`. */
  bindings(name: string, width: RowLoadWidth): Binding[];
  /**
   * Functions that the other expressions call, for loads of one width. `shared`: tables are in workgroup memory, where
   * {@linkcode setup} puts them.
   */
  functions(name: string, width: LoadWidth, shared?: boolean): string;
  /**
   * Statements that bring tables to workgroup memory, by all `threads` threads `thread`, with a barrier, where there are
   * tables. Programs of few rows and those with `shared` functions have them ahead of the first values.
   */
  setup?(name: string, threads: number): string;
  /** Bytes of workgroup memory that those tables take; 0 where there are none. */
  readonly sharedBytes: number;
  /** Widths of {@linkcode rowLoad}, the widest first: 16 of those whose values take less than two bytes. */
  readonly rowWidths: readonly RowLoadWidth[];
  /** How products of few rows load a matrix, so many values at once. */
  rowLoad(name: string, width: RowLoadWidth): RowLoad;
  /** How tiles on tensor cores load it, where loads share scales; its tables are where {@linkcode setup} puts them. */
  tileLoad?(name: string): TileLoad;
  /** Registers of one load. */
  registers(width: LoadWidth): Registers;
  /** The value of a register of load `index`, a WGSL expression of {@linkcode Registers.type}. */
  load(name: string, width: LoadWidth, index: string, register: number): string;
  /**
   * The values of a load, `vec4<f32>` each, as operands of any operator. Only components of `vec2<u32>` registers are
   * used, which may be the first two of a `vec4<u32>`. Registers of zeros are zeros.
   */
  unpack(name: string, width: LoadWidth, registers: readonly string[]): string[];
  /** The values of a load of 8 as packed halves, a `vec4<u32>`, by {@linkcode functions} that are `shared`. */
  halves(name: string, registers: readonly string[]): string;
}

/** Eight values, two expressions of `vec4<f32>`, as packed halves. */
export function packHalves(values: readonly string[]): string {
  const pairs = values.flatMap((four) => ["xy", "zw"].map((two) => `${four}.${two}`));
  const packed = pairs.map((pair) => `pack2x16float(${pair})`);
  return `vec4<u32>(${packed.join(", ")})`;
}

/** A register as a `vec4<u32>`, which holds that of any kind. */
export function asWords(type: Registers["type"], register: string): string {
  if (type === "vec4<u32>") return register;
  return type === "vec4<f32>"
    ? `bitcast<vec4<u32>>(${register})`
    : `vec4<u32>(${register}, 0u, 0u)`;
}

/** The reverse of {@linkcode asWords}. */
export function fromWords(type: Registers["type"], words: string): string {
  return type === "vec4<f32>" ? `bitcast<vec4<f32>>(${words})` : words;
}

/**
 * WGSL of `load_NAME(i) -> vec4<f32>`, load i of width 4, for programs that use values at once. Bindings of vectors
 * have that function already.
 */
export function loadFunction(kind: WeightKind, name: string): string {
  const [{ scalar, words }] = kind.bindings(name, 4);
  if (!scalar && words === undefined) return "";
  const { count } = kind.registers(4);
  const registers = Array.from({ length: count }, (_, r) => `r${r}`);
  return `${kind.functions(name, 4)}
fn load_${name}(i: u32) -> vec4<f32> {
${registers.map((r, n) => `  let ${r} = ${kind.load(name, 4, "i", n)};\n`).join("")}\
  return ${kind.unpack(name, 4, registers)[0]};
}`;
}
