/**
 * What kinds of 8-bit whole numbers with scales have in common: WGSL that loads them. The first of their tensors has
 * the numbers, from the lowest byte of a word on; a load is of one scale.
 *
 * @module
 */
import type { Binding } from "../../gpu/program.ts";
import { packHalves, type RowLoad, type RowLoadWidth, type WeightKind } from "./kind.ts";

/** The binding of the numbers for loads of one width. */
export function codesBinding(name: string, width: RowLoadWidth): Binding {
  const words = ({ 4: 1, 8: 2, 16: 4 } as const)[width];
  return { name, dtype: "u32", access: "read", words };
}

/** What is made of loads that `NAME_codes(i)` makes: a signed byte for each value, then their factor in f32. */
export const BYTE_LOADS: Pick<WeightKind, "registers" | "load" | "unpack" | "halves"> = {
  registers: (width) => ({ type: width === 8 ? "vec4<u32>" : "vec2<u32>", count: 1 }),
  load: (name, _width, index) => `${name}_codes(${index})`,
  unpack(_name, width, [register]) {
    const four = (code: string, scale: string) =>
      `(vec4<f32>(unpack4xI8(${register}.${code})) * bitcast<f32>(${register}.${scale}))`;
    return width === 8 ? [four("x", "z"), four("y", "z")] : [four("x", "y")];
  },
  halves(name, registers) {
    return packHalves(this.unpack(name, 8, registers));
  },
};

/** The WGSL of a kind's loads. `scaleOf`: the scale of load `i`, counted over the whole matrix. */
export function eightBitLoads(
  scaleOf: (name: string, width: RowLoadWidth) => string,
): Pick<
  WeightKind,
  | "sharedBytes"
  | "functions"
  | "registers"
  | "load"
  | "unpack"
  | "halves"
  | "rowWidths"
  | "rowLoad"
> {
  return {
    sharedBytes: 0,
    functions(name, width) {
      const type = width === 8 ? "vec4" : "vec2", rest = width === 8 ? ", 0u" : "";
      return `
fn ${name}_codes(i: u32) -> ${type}<u32> {
  return ${type}<u32>(${name}[i], bitcast<u32>(${scaleOf(name, width)})${rest});
}`;
    },
    ...BYTE_LOADS,

    rowWidths: [16, 8, 4],
    rowLoad(name, width): RowLoad {
      const words = width / 4, type = words === 1 ? "u32" : `vec${words}<u32>`;
      const word = (p: number, w: string) => words === 1 ? `${w}.codes` : `${w}.codes[${p}]`;
      return {
        functions: `
struct ${name}_load { codes: ${type}, scale: f32 }
fn load_of_${name}(i: u32) -> ${name}_load {
  return ${name}_load(${name}[i], ${scaleOf(name, width)});
}`,
        type: `${name}_load`,
        load: (index) => `load_of_${name}(${index})`,
        product: (x, w) => {
          const sum = x.map((x, p) => `dot(${x}, vec4<f32>(unpack4xI8(${word(p, w)})))`);
          return `return (${sum.join(" + ")}) * ${w}.scale;`;
        },
      };
    },
  };
}
