/**
 * LoRA adapters of up to three layers that have one input: y_i += s_i·dropout_i(x)·A_iᵀ·B_iᵀ.
 *
 * Shapes: x `[T, in]`, A_i `[r, in]`, B_i `[out_i, r]`, y `[T, …]` with layer i's columns from `from_i` on, so
 * that one tensor may hold the results of several layers; dy and dx like y and x. x, y, A, B f32 or f16;
 * loraHidden, loraHiddenGrad `[T, layers·r]` and the gradients f32. r and every width are multiples of 4; a module
 * of a lower rank has rows of A and columns of B that are zero. s_i is the module's scale, by default α_i/r_i:
 *
 *     loraHidden_i = dropout_i(x)·A_iᵀ              y_i     += s_i·loraHidden_i·B_iᵀ
 *     loraHiddenGrad_i = s_i·dy_i·B_i               gradB_i += s_i·dy_iᵀ·loraHidden_i
 *     gradA_i += loraHiddenGrad_iᵀ·dropout_i(x)     dx      += Σ_i mask_i ⊙ (loraHiddenGrad_i·A_i) / (1 − p)
 *
 * Dropout is that of dropout.ts, over elements of `[T, in]`. dropout_i(x) is never stored: the mask is made
 * again wherever x is read. Every sum is f32, in the same order every time. On tensor cores (choice.ts) A, B, loraHidden
 * and loraHiddenGrad are rounded to f16 where they are multiplied, and the product that makes y adds the update
 * (matrix/update.ts).
 * Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
 *
 * @module
 */
import { type DropoutMask, maskUniforms } from "../../wgsl/dropout.ts";
import { groupGrid } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { type LoraProducts, loraPrograms } from "./choice.ts";
import { numbered, up } from "./programs.ts";
import {
  downTileCount,
  gradTileCount,
  LORA_TILES,
  type LoraSizes,
  loraTileKind,
  upTileCount,
} from "./tiles.ts";
import type { ProductUpdate } from "./matrix/update.ts";
import type { SplitKPartials } from "../split_k/split_k.ts";
import { bytesOf, type Tensor } from "../../gpu/tensor.ts";

/** The adapter of one layer. */
export interface LoraModule {
  a: Tensor;
  b: Tensor;
  /** First column of y and dy, a multiple of 4. */
  from: number;
  /** Factor of its update. */
  scale: number;
  /** Identity of this layer's dropout masks. */
  subsequence: number;
  /** f32, added to. */
  gradA?: Tensor;
  gradB?: Tensor;
}

/** Adapters whose layers share their input, stored at one rank. */
export interface LoraGroup {
  modules: readonly LoraModule[];
  mask: Omit<DropoutMask, "subsequence">;
}

/** Most modules of a group: each takes up to three bindings of a program. */
const MOST_MODULES = 3;
/** Sizes and tensors of a list of modules, which do not change from launch to launch. */
interface Shape {
  count: number;
  r: number;
  input: number;
  /** Elements of the widest layer, and of all. */
  widest: number;
  outputs: number;
  /** Of each: its width and its first column. */
  places: number[];
  a: Tensor[];
  b: Tensor[];
  gradA: Tensor[];
  gradB: Tensor[];
  /** Uniforms of the modules on the side of x and of y. */
  subsequences: Record<string, number>;
  columns: Record<string, number>;
}

/** Shapes by list of modules: making a shape for every launch would take longer than recording the launch. */
const shapes = new WeakMap<readonly LoraModule[], Shape>();

function shapeOf(modules: readonly LoraModule[]): Shape {
  let shape = shapes.get(modules);
  if (shape === undefined) shapes.set(modules, shape = makeShape(modules));
  return shape;
}

function makeShape(modules: readonly LoraModule[]): Shape {
  const count = modules.length;
  if (count < 1 || count > MOST_MODULES) throw new Error(`${count} adapters in one group`);
  const [r, input] = modules[0].a.shape;
  for (const { a, b } of modules) {
    if (a.shape[0] !== r || b.shape[1] !== r || a.shape[1] !== input || (r | input) % 4 !== 0) {
      throw new Error(`adapters ${a.name} [${a.shape}] and ${b.name} [${b.shape}] do not fit`);
    }
  }
  const present = (tensors: (Tensor | undefined)[]) => tensors.filter((t) => t !== undefined);
  const outputs = modules.map(({ b }) => b.shape[0]);
  return {
    count,
    r,
    input,
    widest: Math.max(...outputs),
    outputs: outputs.reduce((sum, width) => sum + width, 0),
    places: [...outputs, ...modules.map(({ from }) => from)],
    a: modules.map((m) => m.a),
    b: modules.map((m) => m.b),
    gradA: present(modules.map((m) => m.gradA)),
    gradB: present(modules.map((m) => m.gradB)),
    subsequences: numbered(count, { subsequence: (m) => modules[m].subsequence }),
    columns: numbered(count, {
      from: (m) => modules[m].from / 4,
      width: (m) => outputs[m] / 4,
      scale: (m) => modules[m].scale,
    }),
  };
}

/** Uniforms on the side of x. */
const ofX = ({ r, input, subsequences }: Shape, { mask }: LoraGroup, rows: number) => ({
  ...subsequences,
  ...maskUniforms(mask),
  factor: 1 / (1 - mask.p),
  rows,
  rank: r / 4,
  width: input / 4,
});

/** Uniforms on the side of y. */
const ofY = ({ r, columns }: Shape, rows: number) => ({ ...columns, rows, rank: r / 4 });

/** loraHidden_i = dropout_i(x)·A_iᵀ for `rows` rows. */
export function loraDown(
  gpu: Gpu,
  { x, group, loraHidden, rows, ...products }: LoraProducts & {
    x: Tensor;
    group: LoraGroup;
    loraHidden: Tensor;
    rows: number;
  },
): void {
  const shape = shapeOf(group.modules), { count, r, input, a } = shape;
  const common = { rows, rank: r, modules: count };
  const programs = loraPrograms(gpu, {
    ...products,
    ...common,
    pass: "forward",
    read: x,
    widths: [input],
  });
  const tiles = downTileCount(programs.sizes, common);
  gpu.run(
    programs.down({ x: x.dtype, a: a[0].dtype, modules: count, drop: group.mask.p > 0 }),
    [x, ...a, loraHidden],
    { ...ofX(shape, group, rows), tiles },
    groupGrid(tiles),
    {
      flops: 2 * rows * input * r * count,
      bytes: rows * input * bytesOf(x.dtype) + count * r * (input * bytesOf(a[0].dtype) + 4 * rows),
    },
  );
}

/** y_i += s_i·loraHidden_i·B_iᵀ for `rows` rows. */
export function loraUp(
  gpu: Gpu,
  { loraHidden, group, y, rows }: { loraHidden: Tensor; group: LoraGroup; y: Tensor; rows: number },
): void {
  const shape = shapeOf(group.modules), { count, r, widest, outputs, b } = shape;
  const tileKind = loraTileKind(gpu.profile, rows);
  const places = upTileCount(LORA_TILES[tileKind], { columns: widest, rows });
  const tiles = places.columnTiles * places.rowTiles * count;
  gpu.run(
    up({ b: b[0].dtype, y: y.dtype, modules: count, tileKind }),
    [loraHidden, ...b, y],
    { ...ofY(shape, rows), ...places, yStride: y.rowSize / 4, tiles },
    groupGrid(tiles),
    {
      flops: 2 * rows * outputs * r,
      bytes: outputs * (2 * rows * bytesOf(y.dtype) + r * bytesOf(b[0].dtype)),
    },
  );
}

/** The update of {@linkcode loraUp}, as a product of matmul.ts that makes y may add it. */
export function loraUpdate(
  { modules }: Omit<LoraGroup, "mask">,
  loraHidden: Tensor,
): ProductUpdate {
  const { count, r, b, columns } = shapeOf(modules);
  return {
    updates: count,
    up: b[0].dtype,
    tensors: [loraHidden, ...b],
    uniforms: { rank: r / 4, ...columns },
  };
}

/** Operands of {@linkcode loraUpBackward}. */
interface UpGradients extends LoraProducts {
  dy: Tensor;
  /** dy in f16, for products that round it. */
  dyRounded?: Tensor;
  loraHidden: Tensor;
  loraHiddenGrad: Tensor;
  group: LoraGroup;
  rows: number;
}

/**
 * Writes loraHiddenGrad of `rows` rows and adds their gradB to that of every module, all of which must have one:
 * the backward pass of {@linkcode loraUp}.
 */
export function loraUpBackward(
  gpu: Gpu,
  { loraHidden, loraHiddenGrad, group, rows, dyRounded, ...gradients }: UpGradients,
): void {
  const shape = shapeOf(group.modules), { count, r, widest, outputs, b } = shape;
  const common = { rows, rank: r, modules: count };
  const programs = loraPrograms(gpu, {
    ...gradients,
    ...common,
    pass: "backward",
    read: dyRounded ?? gradients.dy,
    widths: shape.places,
  });
  const dy = programs.rounds ? dyRounded ?? gradients.dy : gradients.dy;
  const { sizes } = programs;
  const allDown = downTileCount(sizes, common);
  const gradTiles = gradTileCount(sizes, { ...common, columns: widest });
  const run = (withLoraHiddenGrad: boolean, withGradB: boolean) => {
    const downTiles = withLoraHiddenGrad ? allDown : 0;
    const tiles = downTiles + (withGradB ? gradTiles : 0);
    const productCount = Number(withLoraHiddenGrad) + Number(withGradB);
    gpu.run(
      programs.backwardY({
        dy: dy.dtype,
        b: b[0].dtype,
        withLoraHiddenGrad,
        withGradB,
        modules: count,
      }),
      [
        dy,
        ...withGradB ? [loraHidden] : [],
        ...withLoraHiddenGrad ? [...b, loraHiddenGrad] : [],
        ...withGradB ? shape.gradB : [],
      ],
      {
        ...ofY(shape, rows),
        dyStride: dy.rowSize / 4,
        downTiles,
        tiles,
        columnTiles: gradColumnTiles(sizes, widest),
      },
      groupGrid(tiles),
      {
        flops: 2 * productCount * rows * outputs * r,
        bytes: outputs * (rows * bytesOf(dy.dtype) + r * (8 + bytesOf(b[0].dtype))),
      },
    );
  };
  if (3 + 2 * count <= gpu.maxBindings) return run(true, true);
  run(true, false);
  run(false, true);
}

/** Tiles side by side of gradients `columns` elements wide. */
const gradColumnTiles = ({ gradColumns }: LoraSizes, columns: number) =>
  Math.ceil(columns / (4 * gradColumns));

/**
 * Adds the gradients of `rows` rows to those of every module, all of which must have them, and to the input's where
 * `dx` is given, in two launches.
 *
 * @param loraHidden What {@linkcode loraDown} gave for the same x and group.
 * @param loraHiddenGrad Working memory of loraHidden's shape.
 * @param dx A tensor that is added to, or split-K partial sums, which get one more split.
 */
export function loraBackward(
  gpu: Gpu,
  { x, dx, ...gradients }: UpGradients & { x: Tensor; dx?: Tensor | SplitKPartials },
): void {
  loraUpBackward(gpu, gradients);
  const { loraHiddenGrad, group, rows } = gradients;
  const shape = shapeOf(group.modules), { count, r, input, a } = shape;
  const common = { rows, rank: r, modules: count };
  const programs = loraPrograms(gpu, {
    ...gradients,
    ...common,
    pass: "backward",
    read: x,
    widths: [input],
  });
  const { sizes } = programs;

  const splitK = dx !== undefined && "splits" in dx ? dx : undefined;
  if (splitK !== undefined && splitK.tensor.size < (splitK.splits + 1) * rows * input) {
    throw new Error(`${splitK.tensor.name} has no room for another split`);
  }
  const target = dx === undefined ? undefined : "splits" in dx ? dx.tensor : dx;
  const allGrad = gradTileCount(sizes, { ...common, columns: input });
  const places = upTileCount(sizes, { columns: input, rows });
  const run = (dx: Tensor | undefined, withGradA: boolean) => {
    const gradTiles = withGradA ? allGrad : 0;
    const tiles = gradTiles + (dx === undefined ? 0 : places.columnTiles * places.rowTiles);
    const dxBytes = dx === undefined ? 0 : bytesOf(dx.dtype) * (splitK === undefined ? 2 : 1);
    const products = Number(withGradA) + (dx === undefined ? 0 : 1);
    gpu.run(
      programs.backwardX({
        x: x.dtype,
        a: a[0].dtype,
        dx: dx?.dtype ?? "none",
        withGradA,
        accumulate: splitK === undefined,
        modules: count,
        drop: group.mask.p > 0,
      }),
      [
        ...withGradA ? [x] : [],
        loraHiddenGrad,
        ...dx === undefined ? [] : a,
        ...withGradA ? shape.gradA : [],
        ...dx === undefined ? [] : [dx],
      ],
      {
        ...ofX(shape, group, rows),
        columnTiles: gradColumnTiles(sizes, input),
        gradTiles,
        upTiles: places.columnTiles,
        dxFrom: (splitK?.splits ?? 0) * rows * input / 4,
        tiles,
      },
      groupGrid(tiles),
      {
        flops: 2 * products * rows * input * r * count,
        bytes: input *
          (rows * (bytesOf(x.dtype) + dxBytes) + count * r * (8 + bytesOf(a[0].dtype))),
      },
    );
  };
  if (target === undefined || 3 + 2 * count <= gpu.maxBindings) run(target, true);
  else {
    run(undefined, true);
    run(target, false);
  }
  if (splitK !== undefined) splitK.splits++;
}
