/**
 * LoRA adapters of up to three layers that have one input: y_i += (α/r)·dropout_i(x)·A_iᵀ·B_iᵀ.
 *
 * Shapes: x `[T, in]`, A_i `[r, in]`, B_i `[out_i, r]`, y `[T, …]` with layer i's columns from `from_i` on, so
 * that one tensor may hold the results of several layers; dy and dx like y and x. x, y, A, B f32 or f16; low,
 * lowGrad `[T, layers·r]` and the gradients f32. r and every width are multiples of 4. With s = α/r:
 *
 *     low_i = dropout_i(x)·A_iᵀ            y_i     += s·low_i·B_iᵀ
 *     lowGrad_i = s·dy_i·B_i               gradB_i += s·dy_iᵀ·low_i
 *     gradA_i += lowGrad_iᵀ·dropout_i(x)   dx      += Σ_i mask_i ⊙ (lowGrad_i·A_i) / (1 − p)
 *
 * Dropout is that of dropout.ts, over elements of `[T, in]`. dropout_i(x) is never stored: the mask is made
 * again wherever x is read. Every sum is f32, in the same order every time.
 * Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
 *
 * @module
 */
import { type DropoutMask, maskUniforms } from "./dropout.ts";
import type { Gpu } from "./gpu.ts";
import { backwardX, backwardY, down, numbered, up } from "./lora_programs.ts";
import {
  downTileCount,
  gradTileCount,
  LORA_TILES,
  loraTileKind,
  upTileCount,
} from "./lora_tiles.ts";
import type { Partials } from "./partials.ts";
import { bytesOf, type Tensor } from "./tensor.ts";

/** The adapter of one layer. */
export interface LoraModule {
  a: Tensor;
  b: Tensor;
  /** First column of y and dy, a multiple of 4. */
  from: number;
  /** Identity of this layer's dropout masks. */
  stream: number;
  /** f32, added to. */
  gradA?: Tensor;
  gradB?: Tensor;
}

/** Adapters of one rank whose layers share their input. */
export interface LoraGroup {
  modules: readonly LoraModule[];
  /** α/r. */
  scale: number;
  mask: Omit<DropoutMask, "stream">;
}

/** Most modules of a group: each takes up to three bindings of a program. */
const MOST_MODULES = 3;
/** WebGPU's limit for one dimension of a dispatch. */
const MAX_GROUPS = 65535;

function grid(tiles: number): [number, number] {
  const y = Math.ceil(tiles / MAX_GROUPS);
  return [Math.ceil(tiles / y), y];
}

/** What every launch of a group needs. */
function sizes({ modules, scale, mask }: LoraGroup, rows: number) {
  const count = modules.length, [first] = modules;
  if (count < 1 || count > MOST_MODULES) throw new Error(`${count} adapters in one group`);
  const [r, input] = first.a.shape;
  const rank = r / 4, width = input / 4;
  for (const { a, b } of modules) {
    if (a.shape[0] !== r || b.shape[1] !== r || a.shape[1] !== input || (r | input) % 4 !== 0) {
      throw new Error(`adapters ${a.name} [${a.shape}] and ${b.name} [${b.shape}] do not fit`);
    }
  }
  const shared = { rows, rank };
  return {
    count,
    r,
    input,
    drop: mask.p > 0,
    /** Elements of the widest layer, and of all. */
    widest: Math.max(...modules.map(({ b }) => b.shape[0])),
    outputs: modules.reduce((sum, { b }) => sum + b.shape[0], 0),
    x: {
      ...{ ...shared, width, factor: 1 / (1 - mask.p), ...maskUniforms(mask) },
      ...numbered(count, { stream: (m) => modules[m].stream }),
    },
    y: {
      ...{ ...shared, scale },
      ...numbered(count, {
        from: (m) => modules[m].from / 4,
        width: (m) => modules[m].b.shape[0] / 4,
      }),
    },
  };
}

/** low_i = dropout_i(x)·A_iᵀ for `rows` rows. */
export function loraDown(
  gpu: Gpu,
  { x, group, low, rows }: { x: Tensor; group: LoraGroup; low: Tensor; rows: number },
): void {
  const { modules } = group, kind = loraTileKind(gpu.software, rows);
  const { count, r, input, drop, x: uniforms } = sizes(group, rows);
  const [{ a }] = modules;
  const tiles = downTileCount(LORA_TILES[kind], { rows, rank: r, modules: count });
  gpu.run(
    down(x.dtype, a.dtype, count, drop, kind),
    [x, ...modules.map((m) => m.a), low],
    { ...uniforms, tiles },
    grid(tiles),
    {
      flops: 2 * rows * input * r * count,
      bytes: rows * input * bytesOf(x.dtype) + count * r * (input * bytesOf(a.dtype) + 4 * rows),
    },
  );
}

/** y_i += scale·low_i·B_iᵀ for `rows` rows. */
export function loraUp(
  gpu: Gpu,
  { low, group, y, rows }: { low: Tensor; group: LoraGroup; y: Tensor; rows: number },
): void {
  const { modules } = group, kind = loraTileKind(gpu.software, rows);
  const { count, r, widest, outputs, y: uniforms } = sizes(group, rows);
  const [{ b }] = modules;
  const places = upTileCount(LORA_TILES[kind], { columns: widest, rows });
  const tiles = places.columnTiles * places.rowTiles * count;
  gpu.run(
    up(b.dtype, y.dtype, count, kind),
    [low, ...modules.map((m) => m.b), y],
    { ...uniforms, ...places, yStride: y.rowSize / 4, tiles },
    grid(tiles),
    {
      flops: 2 * rows * outputs * r,
      bytes: outputs * (2 * rows * bytesOf(y.dtype) + r * bytesOf(b.dtype)),
    },
  );
}

/**
 * Adds to every module's gradients (which all must be there) those of `rows` rows, and the input's where it is
 * wanted, in two launches.
 *
 * @param low What {@linkcode loraDown} gave for the same x and group.
 * @param lowGrad Working memory of low's shape.
 * @param dx A tensor that is added to, or partial sums that get another slot.
 */
export function loraBackward(
  gpu: Gpu,
  { x, dy, low, lowGrad, group, rows, dx }: {
    x: Tensor;
    dy: Tensor;
    low: Tensor;
    lowGrad: Tensor;
    group: LoraGroup;
    rows: number;
    dx?: Tensor | Partials;
  },
): void {
  const { modules } = group, kind = loraTileKind(gpu.software, rows), geometry = LORA_TILES[kind];
  const { count, r, input, drop, widest, outputs, ...uniforms } = sizes(group, rows);
  const shared = { rank: r, modules: count };
  const [{ a, b }] = modules;
  const columnTiles = (columns: number) => Math.ceil(columns / (4 * geometry.gradColumns));

  const downTiles = downTileCount(geometry, { rows, ...shared });
  const tilesY = downTiles + gradTileCount(geometry, { columns: widest, ...shared });
  gpu.run(
    backwardY(dy.dtype, b.dtype, count, kind),
    [dy, low, ...modules.map((m) => m.b), lowGrad, ...modules.map((m) => m.gradB!)],
    {
      ...{ ...uniforms.y, dyStride: dy.rowSize / 4, downTiles },
      ...{ columnTiles: columnTiles(widest), tiles: tilesY },
    },
    grid(tilesY),
    {
      flops: 4 * rows * outputs * r,
      bytes: outputs * (rows * bytesOf(dy.dtype) + r * (8 + bytesOf(b.dtype))),
    },
  );

  const slot = dx !== undefined && "splits" in dx ? dx : undefined;
  const target = dx === undefined ? undefined : "splits" in dx ? dx.tensor : dx;
  const gradTiles = gradTileCount(geometry, { columns: input, ...shared });
  const places = upTileCount(geometry, { columns: input, rows });
  const tilesX = gradTiles + (target === undefined ? 0 : places.columnTiles * places.rowTiles);
  const dxBytes = target === undefined ? 0 : bytesOf(target.dtype) * (slot === undefined ? 2 : 1);
  gpu.run(
    backwardX(x.dtype, a.dtype, target?.dtype ?? "none", slot === undefined, count, drop, kind),
    [
      ...[x, lowGrad, ...target === undefined ? [] : modules.map((m) => m.a)],
      ...[...modules.map((m) => m.gradA!), ...target === undefined ? [] : [target]],
    ],
    {
      ...{ ...uniforms.x, columnTiles: columnTiles(input), gradTiles, tiles: tilesX },
      ...{ upTiles: places.columnTiles, dxFrom: (slot?.splits ?? 0) * rows * input / 4 },
    },
    grid(tilesX),
    {
      flops: (target === undefined ? 2 : 4) * rows * input * r * count,
      bytes: input * (rows * (bytesOf(x.dtype) + dxBytes) + count * r * (8 + bytesOf(a.dtype))),
    },
  );
  if (slot !== undefined) slot.splits++;
}
