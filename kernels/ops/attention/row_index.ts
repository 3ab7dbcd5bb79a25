/**
 * What attention's programs read of each row besides its heads: whole numbers, an array each. Devices that bind
 * fewer buffers than a program reads have them in one array, a record a row, which a launch of its own packs.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import {
  type Binding,
  programFamily,
  reads,
  readsScalars,
  writes,
  writesScalars,
} from "../../gpu/program.ts";
import { type Dtype, roundUp, type Tensor } from "../../gpu/tensor.ts";
import type { RotaryPairs } from "../../wgsl/rotate.ts";

/** Words of a row in each array; see attention.ts and excluded_keys.ts for what they are. */
const WORDS = { starts: 1, ends: 1, query_ends: 1, positions: 1, excluded_keys: 2 } as const;

/** An array of whole numbers by row. */
export type RowField = keyof typeof WORDS;
/** The arrays that a launch has. */
export type RowTensors = Partial<Record<RowField, Tensor>>;
/** WGSL for a row's word of an array; `word` is 1 for the second of two. */
export type RowWord = (field: RowField, row: string, word?: 0 | 1) => string;

/** Where each field begins in a row's record, and how many words the record has. */
function recordOf(
  fields: readonly RowField[],
): { at: (field: RowField) => number; words: number } {
  const wordsOf = (some: readonly RowField[]) => some.reduce((sum, field) => sum + WORDS[field], 0);
  return {
    at: (field) => wordsOf(fields.slice(0, fields.indexOf(field))),
    words: wordsOf(fields),
  };
}

/** How a program reads rows' words: of arrays of their own, or of the records of `packed` fields. */
export function rowWords(packed?: readonly RowField[]): RowWord {
  if (packed === undefined) {
    return (field, row, word = 0) => {
      if (WORDS[field] === 1) return `${field}[${row}]`;
      return word === 0 ? `${field}[2u * ${row}]` : `${field}[2u * ${row} + 1u]`;
    };
  }
  const { at, words } = recordOf(packed);
  return (field, row, word = 0) => `row_index[(${row}) * ${words}u + ${at(field) + word}u]`;
}

const pack = programFamily("attention_pack_rows", ({ fields }: { fields: string }) => {
  const names = fields.split("+") as RowField[], { at, words } = recordOf(names);
  const word = rowWords();
  return {
    bindings: [...readsScalars("u32", ...names), ...writesScalars("u32", "row_index")],
    uniforms: { vectors: "u32" },
    body: elementMain(
      names.flatMap((name) =>
        Array.from(
          { length: WORDS[name] },
          (_, n) =>
            `  row_index[i * ${words}u + ${at(name) + n}u] = ${word(name, "i", n as 0 | 1)};`,
        )
      ).join("\n"),
    ),
  };
});

/**
 * Packs arrays of `rows` rows into one of records, in working memory: it is good for the launches that follow
 * until other working memory is asked for.
 *
 * @param after Bytes of working memory before the records, left to something else: a multiple of ALIGNMENT.
 */
export function packRows(
  gpu: Gpu,
  arrays: RowTensors,
  { rows, after = 0 }: { rows: number; after?: number },
): Tensor {
  const names = Object.keys(arrays) as RowField[], { words } = recordOf(names);
  const bytes = 4 * rows * words;
  const packed = gpu.scratch(after + roundUp(bytes, 16)).view([rows, words], after / 4).as("u32");
  const tensors = [...Object.values(arrays), packed];
  gpu.run(pack({ fields: names.join("+") }), tensors, { vectors: rows }, elementGrid(rows), {
    flops: 0,
    bytes: 2 * bytes,
  });
  return packed;
}

/** How a sum's rows are rotated back: WGSL for a row's first vector in RoPE's table, and the pairs. */
export interface SumRotation {
  angles: (row: string) => string;
  pairs: RotaryPairs;
}

/** How the gradient programs differ in what they are bound to. */
export interface GradientBindings {
  dtype: Dtype;
  /** The pairs whose rotation is undone in dq and dk, by RoPE's table and the rows' positions; or `none`. */
  rotated: RotaryPairs | "none";
  /** Rows have a range of excluded keys (excluded_keys.ts). */
  excludes: boolean;
  /** Rows' words are packed. */
  packed: boolean;
}

/** How the gradient programs differ beside their plans. */
export interface GradientVariant extends GradientBindings {
  /** Scores are capped (score.ts). */
  softcap: boolean;
}

/** How rows of `vectors` are rotated back; undefined where they are not. */
export function sumRotation(
  { rotated }: Pick<GradientBindings, "rotated">,
  word: RowWord,
  vectors: number,
): SumRotation | undefined {
  if (rotated === "none") return undefined;
  return { pairs: rotated, angles: (row) => `${word("positions", row)} * ${vectors}u` };
}

/** The fields of a gradient's records. */
export function gradientFields(
  { rotated, excludes }: Pick<GradientBindings, "rotated" | "excludes">,
): RowField[] {
  const fields: RowField[] = ["starts", "ends", "query_ends"];
  if (excludes) fields.push("excluded_keys");
  if (rotated !== "none") fields.push("positions");
  return fields;
}

/** The bindings of a gradient program that reads these arrays of rows, beside those of {@linkcode GradientBindings}. */
export function gradientBindings(
  { dtype, rotated, excludes, packed }: GradientBindings,
  ranges: readonly RowField[] = ["starts", "ends", "query_ends"],
): Binding[] {
  const inputs = [...reads(dtype, "qkv", "out", "dout"), ...readsScalars("f32", "lse")];
  const gradient = writes(dtype, "gradient"), isRotated = rotated !== "none";
  const table = isRotated ? reads("f32", "table") : [];
  if (packed) return [...inputs, ...readsScalars("u32", "row_index"), ...gradient, ...table];
  const fields = excludes ? [...ranges, "excluded_keys"] : ranges;
  const positions = isRotated ? readsScalars("u32", "positions") : [];
  return [...inputs, ...readsScalars("u32", ...fields), ...gradient, ...table, ...positions];
}
