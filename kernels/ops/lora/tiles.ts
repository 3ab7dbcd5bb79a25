/**
 * How the work of LoRA adapters (lora.ts) is divided into tiles, one a workgroup.
 *
 * @module
 */

import type { DeviceProfile } from "../../gpu/device_profile.ts";

/** Sizes by which tiles are counted. */
export interface LoraSizes {
  /** Threads of a workgroup. */
  threads: number;
  /** Down: rows and results a row of a workgroup, whose threads share every sum. */
  downRows: number;
  downResults: number;
  /** Up: vectors of a row next to each other, and rows of each thread. */
  upColumns: number;
  upRows: number;
  /** Gradients: vectors of the wide side, and of the narrow side, of a workgroup. */
  gradColumns: number;
  gradVectors: number;
}

/** Sizes of the tiles of programs without matrices. */
export interface LoraTiles extends LoraSizes {
  /** Up: whether B goes through workgroup memory. */
  upStaged: boolean;
  /** Steps that are loaded before any is used, of the loops over x and of the loops over rows in gradients. */
  downAhead: number;
  gradAhead: number;
}

/** Kinds of {@linkcode LoraTiles}. */
export type LoraTileKind = "software" | "small_m" | "large_m" | "small_memory";

const SMALL_M: LoraTiles = {
  threads: 256,
  downRows: 4,
  downResults: 8,
  upColumns: 64,
  upRows: 4,
  upStaged: true,
  gradColumns: 16,
  gradVectors: 4,
  downAhead: 2,
  gradAhead: 1,
};

/**
 * The tiles of each kind. A software driver's barriers are expensive, and eight threads are one SIMD group. Those
 * for GPUs were picked from measurements at 121 and 968 rows, two layers of 4096, rank 16, on an H100.
 */
export const LORA_TILES: Readonly<Record<LoraTileKind, LoraTiles>> = {
  software: {
    threads: 8,
    downRows: 2,
    downResults: 4,
    upColumns: 8,
    upRows: 2,
    upStaged: false,
    gradColumns: 8,
    gradVectors: 1,
    downAhead: 1,
    gradAhead: 1,
  },
  small_m: SMALL_M,
  large_m: { ...SMALL_M, downRows: 8, downAhead: 1, gradAhead: 2 },
  // Not timed: for devices that have no more workgroup memory than WebGPU guarantees.
  small_memory: { ...SMALL_M, threads: 128, upColumns: 32 },
};

/** Bytes of workgroup memory that the largest program of the tiles `large_m` takes. */
const LARGE_MEMORY = 21760;

/** Which tiles are best on a device for so many rows. */
export function loraTileKind(
  { software, workgroupBytes }: Pick<DeviceProfile, "software" | "workgroupBytes">,
  rows: number,
): LoraTileKind {
  if (software) return "software";
  if (workgroupBytes < LARGE_MEMORY) return "small_memory";
  return rows <= 256 ? "small_m" : "large_m";
}

/** Tiles of a product down to the rank, `rank` in elements. */
export function downTileCount(
  { downRows, downResults }: LoraSizes,
  { rows, rank, modules }: { rows: number; rank: number; modules: number },
): number {
  return Math.ceil(rows / downRows) * Math.ceil(rank / downResults) * modules;
}

/** Tiles of gradients `columns` elements wide. */
export function gradTileCount(
  { gradColumns, gradVectors }: LoraSizes,
  { columns, rank, modules }: { columns: number; rank: number; modules: number },
): number {
  return Math.ceil(columns / (4 * gradColumns)) * Math.ceil(rank / (4 * gradVectors)) * modules;
}

/** Tiles of a product up to `columns` elements. */
export function upTileCount(
  { threads, upColumns, upRows }: LoraSizes,
  { columns, rows }: { columns: number; rows: number },
): { columnTiles: number; rowTiles: number } {
  return {
    columnTiles: Math.ceil(columns / (4 * upColumns)),
    rowTiles: Math.ceil(rows / (threads / upColumns * upRows)),
  };
}
