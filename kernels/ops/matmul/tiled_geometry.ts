/**
 * Which tiles a matrix product on FMA units is divided into, and how its depth K is split (split-K): pure functions
 * that need no GPU.
 *
 * @module
 */
import { type GpuRates, H100 } from "../../gpu/device_profile.ts";
import type { Float } from "../numerics.ts";
import type { Orientation } from "./orientation.ts";

/** Tiles of one launch: a workgroup makes `blockM`×`blockN` results, a thread `threadM`×`threadN`. */
export interface MatmulGeometry {
  blockM: number;
  blockN: number;
  /** Depth of the tiles held in workgroup memory. */
  blockK: number;
  threadM: number;
  threadN: number;
  /** Operands are read where they are needed, without workgroup memory. */
  unstaged?: boolean;
  /** Splits of K: workgroups that share one tile of results, each summing over its split. */
  splits: number;
}

/** What the choice depends on besides the shape. */
export interface MatmulTarget {
  /** A software driver: few cores, no warps to keep busy. */
  software: boolean;
  /** What A and B are staged as; f32 without it. */
  operands?: Float;
  /** In `tn` a thread's rows are whole words, as they are read. */
  orientation?: Orientation;
  /** Bytes of workgroup memory that a workgroup may take; 32 KiB without it. */
  memory?: number;
  /** Bytes of it that tables of B's kind take; none without it. */
  tables?: number;
  /** Most splits of K, where the next launch adds them up. Otherwise one launch more does. */
  maxSplits?: number;
  /** An H100's, which tiles were rated on, without it. */
  rates?: GpuRates;
}

/** Bytes of partial sums that a product may leave for the launch that adds them up. */
export const SPLIT_BYTES = 1 << 25;

/** Bytes of working memory for a product's partial sums and `extraSplits` more splits. */
export function splitKBytes(rows: number, width: number, extraSplits = 0): number {
  return Math.max(SPLIT_BYTES, (1 + extraSplits) * rows * width * 4);
}

/** Splits of K that there is room for: `maxSplits` where it is given, or as many as fit working memory. */
export function mostSplits(m: number, n: number, maxSplits?: number): number {
  return Math.max(1, maxSplits ?? Math.floor(SPLIT_BYTES / (m * n * 4)));
}

/** A geometry without its splits. */
export type Tile = Omit<MatmulGeometry, "splits">;

interface RatedTile {
  tile: Tile;
  /** TFLOP/s on whole tiles of a busy H100; for a software driver, relative. */
  speed: number;
  /** Workgroups that a multiprocessor works on at once. */
  occupancy: number;
}

const rated = (
  speed: number,
  occupancy: number,
  [blockM, blockN, blockK]: [number, number, number],
  [threadM, threadN]: [number, number],
): RatedTile => ({ speed, occupancy, tile: { blockM, blockN, blockK, threadM, threadN } });

/**
 * Speeds, occupancies and {@linkcode IDLENESS} fit some 9,000 measurements with 16 to 300 rows, K whole and in 2 to 8
 * splits, within 6% (f16) and 9% (f32) in the root mean square; the tiles chosen by them are on average 0.3%
 * slower than the best.
 */
const F32_TILES: readonly RatedTile[] = [
  rated(47.6, 1, [128, 128, 32], [8, 8]),
  rated(45, 1, [128, 128, 16], [8, 8]),
  rated(48.8, 2, [112, 128, 16], [7, 8]),
  rated(44.7, 2, [96, 128, 16], [8, 8]),
  rated(45, 2, [88, 128, 16], [11, 8]),
  rated(51.3, 3, [80, 128, 16], [10, 8]),
  rated(45.4, 3, [56, 128, 16], [7, 8]),
  rated(41.4, 3, [48, 128, 16], [6, 8]),
  rated(46.3, 5, [64, 64, 16], [8, 8]),
  rated(40.6, 4, [32, 128, 16], [8, 8]),
  rated(20, 4, [64, 16, 32], [4, 4]),
  rated(20, 4, [16, 64, 32], [4, 4]),
];

const F16_TILES: readonly RatedTile[] = [
  rated(63, 2, [64, 128, 32], [8, 8]),
  rated(54.3, 2, [64, 64, 32], [8, 8]),
  rated(58.3, 2, [88, 128, 32], [11, 8]),
  rated(62.2, 2, [80, 128, 32], [10, 8]),
  rated(59.9, 2, [56, 128, 32], [7, 8]),
  rated(57, 2, [48, 128, 32], [6, 8]),
  rated(52.8, 3, [32, 128, 32], [4, 8]),
];

const unstaged = (speed: number, block: [number, number], thread: [number, number]): RatedTile => {
  const { tile } = rated(speed, 1, [...block, 4], thread);
  return { speed, occupancy: 1, tile: { ...tile, unstaged: true } };
};

const TILES = { f32: F32_TILES, f16: F16_TILES } as const;

/** On a software driver a barrier costs more than reading an operand again from the cache. */
const SOFTWARE_TILES: readonly RatedTile[] = [
  unstaged(1.0, [8, 64], [8, 8]),
  unstaged(0.5, [16, 16], [8, 4]),
  unstaged(0.3, [1, 32], [1, 4]),
];

/** Every tile that a device may choose. */
export function allTiles(target: MatmulTarget): Tile[] {
  return ratedTiles(target).map(({ tile }) => tile);
}

/** Bytes of workgroup memory that a tile may take unless the GPU says more. */
const LEAST_MEMORY = 32 << 10;

function ratedTiles(
  { software, operands = "f32", orientation, memory = LEAST_MEMORY, tables = 0 }: MatmulTarget,
): readonly RatedTile[] {
  const tiles = software ? SOFTWARE_TILES : TILES[operands];
  return tiles.filter(({ tile }) =>
    tiledMemory(tile, operands) + tables <= memory &&
    (tile.unstaged || orientation !== "tn" || tile.threadM % ROWS_OF_WORD === 0)
  );
}

/** Rows of A in the 16-byte words that a tile is staged in. */
export const ROWS_OF_WORD = 4;

/** Columns of B in the 16-byte words that a tile is staged in. */
export function columnsOfWord(operands: Float): number {
  return operands === "f16" ? 8 : 4;
}

/** Words of A in a staged tile at one value of k: each thread's rows begin a word, the last of which need not be full. */
export function wordsOfA({ blockM, threadM }: Tile): number {
  return blockM / threadM * Math.ceil(threadM / ROWS_OF_WORD);
}

/** Words of a staged tile at one value of k, a few more than used so that stores meet no bank conflicts. */
export function wordsAcross(tile: Tile, operands: Float): number {
  const { blockN, blockK } = tile;
  // Eight neighbouring threads store for all groups of four k, side by side, and as many words as that leaves.
  const period = Math.max(1, Math.floor(32 / blockK)),
    used = wordsOfA(tile) + blockN / columnsOfWord(operands);
  return used + (((period - used) % 8) + 8) % 8;
}

/** Bytes of workgroup memory of a tile, without tables of B's kind. */
export function tiledMemory(tile: Tile, operands: Float): number {
  return tile.unstaged ? 0 : tile.blockK * wordsAcross(tile, operands) * 16;
}

/** Threads of a workgroup. */
export function workgroupThreads({ blockM, blockN, threadM, threadN }: Tile): number {
  return (blockM / threadM) * (blockN / threadN);
}

/** The splits of K, each of `perSplit` values but the last. They may be fewer than asked for. */
export function splitK(
  k: number,
  { blockK, splits, unstaged }: Pick<MatmulGeometry, "blockK" | "splits" | "unstaged">,
): { perSplit: number; splits: number } {
  if (unstaged) return { perSplit: k, splits: 1 };
  const perSplit = Math.ceil(Math.ceil(k / splits) / blockK) * blockK;
  return { perSplit, splits: Math.ceil(k / perSplit) };
}

/** A geometry and the seconds that a product should take with it; on a software driver only relative to others. */
export interface RatedGeometry {
  geometry: MatmulGeometry;
  seconds: number;
}

/**
 * The tiles for C `[m, n]` = A·B with depth k that take the least time by the model of an H100 below, or on
 * a software driver those with the highest speed times share of results.
 */
export function matmulGeometry(
  m: number,
  n: number,
  k: number,
  target: MatmulTarget,
): MatmulGeometry {
  const { software, operands, orientation, memory, tables, maxSplits } = target;
  const { processors, memoryRate } = target.rates ?? H100;
  const key =
    `${m},${n},${k},${software},${operands},${orientation},${memory},${tables},${maxSplits},` +
    `${processors},${memoryRate}`;
  let geometry = chosen.get(key);
  if (geometry === undefined) chosen.set(key, geometry = geometries(m, n, k, target)[0].geometry);
  return geometry;
}

/** Choices made so far: a training step asks for the same few choices thousands of times. */
const chosen = new Map<string, MatmulGeometry>();

/** Every geometry that a product may have, the best by the model first. */
export function geometries(
  m: number,
  n: number,
  k: number,
  target: MatmulTarget,
): RatedGeometry[] {
  const all = target.software ? unstagedGeometries(m, n) : tiledGeometries(m, n, k, target);
  return all.sort((a, b) => a.seconds - b.seconds);
}

function unstagedGeometries(m: number, n: number): RatedGeometry[] {
  // A weight's gradient (`tn`) reads its rows in fours, and has at least that many.
  return SOFTWARE_TILES.filter(({ tile }) => tile.threadM >= 4 || m < 4).map(({ tile, speed }) => {
    const whole = Math.ceil(m / tile.blockM) * tile.blockM * Math.ceil(n / tile.blockN) *
      tile.blockN;
    return { geometry: { ...tile, splits: 1 }, seconds: whole / speed };
  });
}

function tiledGeometries(
  m: number,
  n: number,
  k: number,
  target: MatmulTarget,
): RatedGeometry[] {
  const { maxSplits } = target;
  const most = Math.max(1, Math.min(mostSplits(m, n, maxSplits), Math.floor(k / LEAST_SPLIT), 32));
  return ratedTiles(target).flatMap((rated, i) =>
    Array.from({ length: most }, (_, split): RatedGeometry => {
      const geometry = { ...rated.tile, splits: split + 1 };
      const time = seconds({ m, n, k }, geometry, rated, target);
      return { geometry, seconds: time * (i === 0 ? 1 : WORTH) };
    })
  );
}

/** Fewest values of K worth a workgroup of its own. */
const LEAST_SPLIT = 256;
/** Values of K that a workgroup could multiply while it waits for its first tiles and stores its results. */
const RAMP = 6;
/** How much better than the first a tile must be, since every other tile is one more program to compile. */
const WORTH = 1.02;
/** A multiprocessor with a share s of the workgroups that it could run has a speed of s to the power of this. */
const IDLENESS = 0.54;
/** Seconds of a launch that adds up splits. */
const LAUNCH_SECONDS = 5e-6;

/**
 * Seconds that a product takes, without the reading of its operands, which is the same for all tiles.
 */
function seconds(
  { m, n, k }: { m: number; n: number; k: number },
  geometry: MatmulGeometry,
  { speed, occupancy }: RatedTile,
  { maxSplits, rates: { processors, memoryRate } = H100 }: MatmulTarget,
): number {
  const { blockM, blockN } = geometry;
  const { perSplit, splits } = splitK(k, geometry);
  // The multiprocessor with the most workgroups is the last to end. Tiles that overhang the edges cost as much as the
  // others: threads without rows don't multiply, but the others are too few to keep it busy.
  const most = Math.ceil(Math.ceil(m / blockM) * Math.ceil(n / blockN) * splits / processors);
  const inLast = most % occupancy;
  const rounds = most - inLast + (inLast > 0 ? inLast / (inLast / occupancy) ** IDLENESS : 0);
  const products = rounds * blockM * blockN * (perSplit + RAMP) * processors;
  const time = 2 * products / (speed * 1e12);
  if (splits === 1) return time;
  return time + (splits + 1) * m * n * 4 / memoryRate +
    (maxSplits === undefined ? LAUNCH_SECONDS : 0);
}
