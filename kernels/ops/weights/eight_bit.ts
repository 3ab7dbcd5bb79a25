/**
 * What kinds of 8-bit whole numbers with scales have in common: WGSL that loads them. The first of their tensors has
 * the numbers, from the lowest byte of a word on; a load is of one scale.
 *
 * @module
 */
import type { Binding } from "../../gpu/program.ts";
import {
  packHalves,
  type RowLoad,
  type RowLoadWidth,
  type RowScale,
  type WeightKind,
} from "./kind.ts";

/** The binding of the numbers for loads of one width. */
export function codesBinding(name: string, width: RowLoadWidth): Binding {
  const words = ({ 4: 1, 8: 2, 16: 4 } as const)[width];
  return { name, dtype: "u32", access: "read", words };
}

/** How the scale of a load is read, in two steps: registers are not to wait for what memory gives. */
export interface ScaleRead {
  /** Values of a row that have the same, a power of two. */
  values: number;
  /** The word that has the scale of load `i`, a u32, and what else tells it from others in the word, a u32. */
  word(name: string, width: RowLoadWidth): string;
  rest(width: RowLoadWidth): string;
  /** The scale, f32, of these two. */
  value(word: string, rest: string): string;
}

/** The WGSL of a kind's loads. `scale`: that of load `i`, counted over the whole matrix. */
export function eightBitLoads(
  scale: ScaleRead,
):
  & Pick<
    WeightKind,
    | "sharedBytes"
    | "functions"
    | "registers"
    | "load"
    | "unpack"
    | "halves"
    | "rowWidths"
  >
  & { rowLoad(name: string, width: RowLoadWidth): RowLoad & { scale: RowScale } } {
  const unpack: WeightKind["unpack"] = (_name, width, [register]) => {
    const four = (code: string) => {
      const value = scale.value(`${register}.z`, `${register}.w`);
      return `(vec4<f32>(unpack4xI8(${register}.${code})) * ${value})`;
    };
    return width === 8 ? [four("x"), four("y")] : [four("x")];
  };
  return {
    sharedBytes: 0,
    functions(name, width) {
      const codes = width === 8 ? `${name}[i]` : `${name}[i], 0u`;
      return `
fn ${name}_codes(i: u32) -> vec4<u32> {
  return vec4<u32>(${codes}, ${scale.word(name, width)}, ${scale.rest(width)});
}`;
    },
    registers: () => ({ type: "vec4<u32>", count: 1 }),
    load: (name, _width, index) => `${name}_codes(${index})`,
    unpack,
    halves: (name, registers) => packHalves(unpack(name, 8, registers)),

    rowWidths: [16, 8, 4],
    rowLoad(name, width) {
      const words = width / 4, type = words === 1 ? "u32" : `vec${words}<u32>`;
      const word = (p: number, w: string) => words === 1 ? w : `${w}[${p}]`;
      return {
        functions: `
fn scale_of_${name}(i: u32) -> vec2<u32> {
  return vec2<u32>(${scale.word(name, width)}, ${scale.rest(width)});
}`,
        type,
        load: (index) => `${name}[${index}]`,
        scale: {
          loads: scale.values / width,
          type: "vec2<u32>",
          load: (index) => `scale_of_${name}(${index})`,
          value: (registers) => scale.value(`${registers}.x`, `${registers}.y`),
        },
        product: (x, w) => {
          const sum = x.map((x, p) => `dot(${x}, vec4<f32>(unpack4xI8(${word(p, w)})))`);
          return `return ${sum.join(" + ")};`;
        },
      };
    },
  };
}
