/**
 * Which programs of LoRA adapters (lora.ts) a launch takes: those on tensor cores, or those of tiles.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Program } from "../../gpu/program.ts";
import { MATRIX_SHAPES, type MatrixName, onTensorCores } from "../../gpu/subgroup_matrix.ts";
import type { Dtype, Tensor } from "../../gpu/tensor.ts";
import type { Float } from "../numerics.ts";
import { matrixSizes, type MatrixTiles, matrixTiles } from "./matrix/plan.ts";
import { matrixBackwardX, matrixBackwardY, matrixDown } from "./matrix/programs.ts";
import { backwardX, backwardY, down } from "./programs.ts";
import { LORA_TILES, type LoraSizes, type LoraTileKind, loraTileKind } from "./tiles.ts";

/** How products may be made. */
export interface LoraProducts {
  /** What products may round their operands to, see {@linkcode Numerics}. Default f32. */
  operands?: Float;
  /** Whether subgroup matrices multiply. Default: where they are tensor cores, and rows are many. */
  matrices?: boolean;
  /** Sizes of their tiles, for measurements. */
  tiles?: Partial<MatrixTiles>;
}

/** Programs of one kind, and the sizes of their tiles. */
export interface LoraPrograms {
  readonly sizes: LoraSizes;
  /** Whether they round what they multiply to f16. */
  readonly rounds: boolean;
  down(variant: { x: Dtype; a: Dtype; modules: number; drop: boolean }): Program;
  backwardY(variant: {
    dy: Dtype;
    b: Dtype;
    withLoraHiddenGrad: boolean;
    withGradB: boolean;
    modules: number;
  }): Program;
  backwardX(variant: {
    x: Dtype;
    a: Dtype;
    dx: Dtype | "none";
    withGradA: boolean;
    accumulate: boolean;
    modules: number;
    drop: boolean;
  }): Program;
}

/**
 * Fewest rows that tensor cores are faster for, forward and backward. With two layers of 4096, rank 16, on an H200: 22 µs
 * without them and 18 with them at 968 rows, 12 and 18 at 512; loraHiddenGrad and gradB 22 and 19 at 256, 10 and 17 at 121.
 */
const LEAST_ROWS = { forward: 768, backward: 256 };

/** What the choice depends on. */
interface Launch extends LoraProducts {
  pass: keyof typeof LEAST_ROWS;
  rows: number;
  rank: number;
  modules: number;
  /** x or dy, where it is read. */
  read?: Tensor;
  /** Widths, and first columns, of the layers' inputs or outputs. */
  widths: readonly number[];
}

/** The programs of a launch. */
export function loraPrograms(gpu: Pick<Gpu, "matrices" | "profile">, launch: Launch): LoraPrograms {
  const { rows } = launch, matrices = matricesOf(gpu, launch);
  if (matrices === undefined) return tiled(loraTileKind(gpu.profile, rows));
  const { m } = MATRIX_SHAPES[matrices], { rank, modules, tiles } = launch;
  const fewRows = Math.ceil(rows / (2 * m)) * modules < gpu.profile.processors;
  return onMatrices({ ...matrixTiles(matrices, { rank, fewRows }), ...tiles });
}

/** The matrices that a launch takes, if any. */
function matricesOf(
  gpu: Pick<Gpu, "matrices">,
  { pass, operands, rows, read, widths, matrices }: Launch,
): MatrixName | undefined {
  const wanted = matrices ?? (onTensorCores(gpu.matrices) && rows >= LEAST_ROWS[pass]);
  const suits = read === undefined || read.dtype === "f16" && read.rowSize % 8 === 0;
  return wanted && operands === "f16" && suits && widths.every((width) => width % 8 === 0)
    ? gpu.matrices
    : undefined;
}

const ofTiles = new Map<LoraTileKind, LoraPrograms>();

function tiled(tileKind: LoraTileKind): LoraPrograms {
  let programs = ofTiles.get(tileKind);
  if (programs === undefined) {
    programs = {
      sizes: LORA_TILES[tileKind],
      rounds: false,
      down: (variant) => down({ ...variant, tileKind }),
      backwardY: (variant) => backwardY({ ...variant, tileKind }),
      backwardX: (variant) => backwardX({ ...variant, tileKind }),
    };
    ofTiles.set(tileKind, programs);
  }
  return programs;
}

function onMatrices(tiles: MatrixTiles): LoraPrograms {
  const { matrices, subgroups, ranks, ahead, ...sizes } = tiles;
  const { downRows, downDepth, gradColumns, gradDepth, upRows, upColumns } = sizes;
  const forRanks = { matrices, subgroups, ranks, ahead }, forDown = { downRows, downDepth };
  const forGradients = { gradColumns, gradDepth }, forUp = { upRows, upColumns };
  return {
    sizes: matrixSizes(tiles),
    rounds: true,
    down: ({ a, modules, drop }) => matrixDown({ a, modules, drop, ...forRanks, ...forDown }),
    backwardY: ({ dy: _, ...variant }) =>
      matrixBackwardY({ ...variant, ...forRanks, ...forDown, ...forGradients }),
    backwardX: ({ x: _, ...variant }) =>
      matrixBackwardX({ ...variant, ...forRanks, ...forGradients, ...forUp }),
  };
}
