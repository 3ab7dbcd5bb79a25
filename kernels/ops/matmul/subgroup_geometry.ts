/**
 * Which tiles a matrix product on tensor cores is divided into: pure functions that need no GPU.
 *
 * @module
 */
import { SPLIT_BYTES } from "./tiled_geometry.ts";
import { H100 } from "../../gpu/device_profile.ts";
import type { Orientation } from "./orientation.ts";

/** Tiles of one launch: a workgroup makes `blockM`×`blockN` results. */
export type SubgroupTile = {
  blockM: number;
  blockN: number;
  /** Values of K that operands in f16 are loaded ahead. */
  blockK: number;
  /** Subgroups of a workgroup, one below the other and side by side; each makes an equal part. */
  subgroupsM: number;
  subgroupsN: number;
};

/**
 * Workgroups that a multiprocessor holds at once: two of four subgroups, whose tiles are half as deep (with
 * 28 KiB of workgroup memory it would hold one), or one of eight.
 */
export function occupancyOf(
  { subgroupsM, subgroupsN }: Pick<SubgroupTile, "subgroupsM" | "subgroupsN">,
): number {
  return subgroupsM * subgroupsN < 8 ? 2 : 1;
}

/** Depth of the tiles held in workgroup memory. */
export function depthOf(tile: SubgroupTile): number {
  return tile.blockK / occupancyOf(tile);
}

/** A tile, and how many workgroups share one, each summing over a split of K. */
export interface SubgroupGeometry extends SubgroupTile {
  splits: number;
}

/** Fewest values of K worth a workgroup of its own. */
const LEAST_SPLIT = 512;
/** Microseconds that a round of workgroups takes to begin and end. */
const ROUND_TIME = 6.7;
/** Time of a workgroup alone on a multiprocessor that could run two, in units of half the time of two. */
const ALONE = 1.4;
/**
 * Microseconds to write and add up a mebibyte of split-K partial sums at the speed of a copy, and those of one more
 * launch.
 */
const SPLIT_K_TIME = 0.7, LAUNCH_TIME = 4;

interface TimedTile {
  tile: SubgroupTile;
  /**
   * Microseconds that a multiprocessor takes for blockK values of K of each workgroup it holds, over their
   * number: where one workgroup reads each value of B, from memory, and where several do.
   */
  times: readonly [once: number, often: number];
}

const timed = (
  times: [number, number],
  [blockM, blockN, blockK]: [number, number, number],
  [subgroupsM, subgroupsN]: [number, number],
): TimedTile => ({ times, tile: { blockM, blockN, blockK, subgroupsM, subgroupsN } });

/**
 * These times and those of a round fit measurements with 64 to 180, 968 and 4096 rows, K whole and in 2 to 8 splits,
 * within about 5% (root mean square).
 */
const TILES: Readonly<Record<Orientation, readonly TimedTile[]>> = {
  nt: [
    timed([1.2, 0.87], [64, 192, 64], [2, 4]),
    timed([1.25, 1.03], [96, 192, 64], [2, 4]),
    timed([1.28, 1.23], [128, 192, 64], [2, 4]),
    timed([0.95, 0.92], [128, 128, 64], [2, 4]),
    timed([1.12, 1.1], [160, 128, 64], [2, 4]),
    timed([1.22, 1.19], [192, 128, 64], [4, 2]),
    timed([0.98, 0.74], [128, 128, 64], [2, 2]),
  ],
  nn: [
    timed([1.11, 0.87], [64, 192, 64], [2, 4]),
    timed([1.2, 1.03], [96, 192, 64], [2, 4]),
    timed([1.23, 1.23], [128, 192, 64], [2, 4]),
    timed([0.93, 0.94], [128, 128, 64], [2, 4]),
    timed([1.12, 1.1], [160, 128, 64], [2, 4]),
    timed([1.22, 1.19], [192, 128, 64], [4, 2]),
    timed([0.93, 0.81], [128, 128, 64], [2, 2]),
  ],
  tn: [timed([0.74, 0.74], [128, 128, 64], [2, 2])],
};

/** Every tile that a product may be given. */
export function subgroupTiles(orientation: Orientation): SubgroupTile[] {
  return TILES[orientation].map(({ tile }) => tile);
}

/** What a product's tiles depend on besides its sizes. */
export interface SubgroupTarget {
  /** Most splits of K; without it as many as fit working memory. */
  maxSplits?: number;
  /** Multiprocessors; those of an H100, which the times above were measured on, without it. */
  processors?: number;
}

/** Numbers of workgroups that may share a tile of results. */
function possibleSplits(k: number, most: number): number[] {
  const count = Math.max(1, Math.min(Math.floor(k / LEAST_SPLIT), most, 16));
  return Array.from({ length: count }, (_, i) => i + 1);
}

/**
 * The tiles for C `[m, n]` = A·B with depth k that take the least time. Multiprocessors run the workgroups in rounds,
 * and tiles that overhang the edges cost as much as the others.
 */
export function subgroupGeometry(
  orientation: Orientation,
  m: number,
  n: number,
  k: number,
  { maxSplits = Math.floor(SPLIT_BYTES / (m * n * 4)), processors = H100.processors }:
    SubgroupTarget = {},
): SubgroupGeometry {
  const key = `${orientation},${m},${n},${k},${maxSplits},${processors}`;
  let geometry = chosen.get(key);
  if (geometry === undefined) {
    geometry = choose(orientation, m, n, k, { maxSplits, processors });
    chosen.set(key, geometry);
  }
  return geometry;
}

/** Choices made so far: a training step asks for the same few choices thousands of times. */
const chosen = new Map<string, SubgroupGeometry>();

function choose(
  orientation: Orientation,
  m: number,
  n: number,
  k: number,
  { maxSplits, processors }: Required<SubgroupTarget>,
): SubgroupGeometry {
  const [{ tile: first }] = TILES[orientation];
  let best: SubgroupGeometry = { ...first, splits: 1 }, bestTime = Infinity;
  for (const { tile, times } of TILES[orientation]) {
    const time = times[m <= tile.blockM ? 0 : 1];
    const tiles = Math.ceil(m / tile.blockM) * Math.ceil(n / tile.blockN);
    const occupancy = occupancyOf(tile), places = processors * occupancy;
    for (const splits of possibleSplits(k, maxSplits)) {
      const rounds = Math.ceil(tiles * splits / places);
      const inLast = tiles * splits - (rounds - 1) * places;
      const sequential = (rounds - 1) * occupancy +
        (inLast > processors ? occupancy : Math.min(occupancy, ALONE));
      const steps = Math.ceil(k / splits / tile.blockK);
      const splitKTime = splits === 1
        ? 0
        : splits * m * n * 4 / 2 ** 20 * SPLIT_K_TIME + LAUNCH_TIME;
      const total = rounds * ROUND_TIME + sequential * steps * time + splitKTime;
      if (total < bestTime) [best, bestTime] = [{ ...tile, splits }, total];
    }
  }
  return best;
}
