/**
 * Dense weights: one tensor of f32 or f16, of which every value is an element.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Binding } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { castBytes } from "../elements/cast.ts";
import { flagNotFinite } from "../elements/not_finite.ts";
import type { Float } from "../numerics.ts";
import {
  type Encoder,
  type FlagPlace,
  type LoadWidth,
  packHalves,
  type Plane,
  type Registers,
  type RowLoad,
  type RowLoadWidth,
  type WeightKind,
} from "./kind.ts";

/** Two packed halves of f16 registers, by the names of their components. */
const unpacked = (register: string, [low, high]: string) =>
  `vec4<f32>(unpack2x16float(${register}.${low}), unpack2x16float(${register}.${high}))`;

const REGISTERS: Readonly<Record<Float, Record<LoadWidth, Registers>>> = {
  f32: { 4: { type: "vec4<f32>", count: 1 }, 8: { type: "vec4<f32>", count: 2 } },
  f16: { 4: { type: "vec2<u32>", count: 1 }, 8: { type: "vec4<u32>", count: 1 } },
};

/** Values are cast. */
const encoder: Encoder = {
  unit: () => 1,
  workElements: () => 0,
  encode(gpu, [tensor], { words, from, first, count }) {
    castBytes(gpu, { words, from, y: tensor.view([count], first), count });
  },
};

/** Weights of one element type. */
class Dense implements WeightKind {
  readonly element: Float;
  readonly columnUnit = 1;
  readonly encoder = encoder;
  readonly sharedBytes = 0;
  readonly rowWidths: readonly RowLoadWidth[];

  constructor(readonly name: Float) {
    this.element = name;
    // A load of 8 f32 takes two registers.
    this.rowWidths = name === "f16" ? [8, 4] : [4];
  }

  planes(): readonly Plane[] {
    return [{ suffix: "", dtype: this.name, values: 1, elements: 1 }];
  }

  flagNotFinite(gpu: Gpu, [x]: readonly Tensor[], at: FlagPlace): void {
    flagNotFinite(gpu, { x, ...at });
  }

  bindings(name: string, width: RowLoadWidth): Binding[] {
    return [{
      name,
      dtype: this.name,
      access: "read",
      words: this.name === "f16" && width === 8 ? 4 : undefined,
    }];
  }

  functions(): string {
    return "";
  }

  rowLoad(name: string, wide: RowLoadWidth): RowLoad {
    const width = wide as LoadWidth; // one of rowWidths
    return {
      functions: "",
      type: this.registers(width).type,
      load: (index) => this.load(name, width, index, 0),
      product: (x, w) => {
        const dots = this.unpack(name, width, [w]).map((four, p) => `dot(${x[p]}, ${four})`);
        return `return ${dots.join(" + ")};`;
      },
    };
  }

  registers(width: LoadWidth): Registers {
    return REGISTERS[this.name][width];
  }

  load(name: string, width: LoadWidth, index: string, register: number): string {
    const isTwo = this.registers(width).count === 2;
    return isTwo ? `${name}[(${index}) * 2u + ${register}u]` : `${name}[${index}]`;
  }

  unpack(_name: string, width: LoadWidth, registers: readonly string[]): string[] {
    if (this.name === "f32") return [...registers];
    const [register] = registers;
    return width === 8
      ? [unpacked(register, "xy"), unpacked(register, "zw")]
      : [unpacked(register, "xy")];
  }

  halves(_name: string, registers: readonly string[]): string {
    return this.name === "f16" ? registers[0] : packHalves(registers);
  }
}

/** The dense kinds by element type. */
export const DENSE: Readonly<Record<Float, WeightKind>> = {
  f32: new Dense("f32"),
  f16: new Dense("f16"),
};
