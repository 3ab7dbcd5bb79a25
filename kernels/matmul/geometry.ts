/**
 * Which tiles a matrix product is cut into: pure functions that need no GPU.
 *
 * @module
 */

/** Tiles of one launch: a workgroup makes `blockM`×`blockN` results, a thread `threadM`×`threadN`. */
export interface MatmulGeometry {
  blockM: number;
  blockN: number;
  /** Depth of the tiles held in workgroup memory. */
  blockK: number;
  threadM: number;
  threadN: number;
  /** Operands are read where they are needed, without workgroup memory. */
  direct?: boolean;
  /** Workgroups that share one tile of results, each summing a part of K. */
  splits: number;
}

/** What the choice depends on besides the shape. */
export interface MatmulTarget {
  /** A software driver: few cores, no warps to keep busy. */
  software: boolean;
  /** Operands are staged as f16, in words of eight. */
  half?: boolean;
  /** Bytes of workgroup memory that a workgroup may take; 32 KiB without it. */
  memory?: number;
  /** The next launch adds up the parts of K, at most so many. Otherwise one launch more does. */
  slots?: number;
}

/** Bytes of partial results that a product may leave for the launch that adds them up. */
export const SPLIT_BYTES = 1 << 25;

/** A geometry without its splits. */
export type Tile = Omit<MatmulGeometry, "splits">;

interface RatedTile {
  tile: Tile;
  /** TFLOP/s on whole tiles of a busy H100; for a software driver, relative. */
  speed: number;
  /** Workgroups that a multiprocessor works on at once. */
  held: number;
}

const rated = (
  speed: number,
  held: number,
  [blockM, blockN, blockK]: [number, number, number],
  [threadM, threadN]: [number, number],
): RatedTile => ({ speed, held, tile: { blockM, blockN, blockK, threadM, threadN } });

// Speeds and numbers held fit 250 measurements with 48 to 300 rows, K whole and in 2 to 8 parts, within 12%
// (root mean square), and the tiles chosen by them are on average 1% slower than the best.
const FLOAT_TILES: readonly RatedTile[] = [
  rated(48, 1, [128, 128, 32], [8, 8]),
  rated(47, 1, [128, 128, 16], [8, 8]),
  rated(48, 2, [96, 128, 16], [8, 8]),
  rated(47, 5, [64, 64, 16], [8, 8]),
  rated(40, 4, [32, 128, 16], [8, 8]),
  rated(20, 4, [64, 16, 32], [4, 4]),
  rated(20, 4, [16, 64, 32], [4, 4]),
];

const HALF_TILES: readonly RatedTile[] = [
  rated(57, 2, [64, 128, 32], [8, 8]),
  rated(55, 4, [64, 64, 32], [8, 8]),
  rated(47, 4, [32, 128, 32], [8, 8]),
];

const direct = (speed: number, block: [number, number], thread: [number, number]): RatedTile => {
  const { tile } = rated(speed, 1, [...block, 4], thread);
  return { speed, held: 1, tile: { ...tile, direct: true } };
};

/** On a software driver a barrier costs more than reading an operand again from the cache. */
const SOFTWARE_TILES: readonly RatedTile[] = [
  direct(1.0, [8, 64], [8, 8]),
  direct(0.5, [16, 16], [8, 4]),
  direct(0.3, [1, 32], [1, 4]),
];

/** Every tile that a device may choose. */
export function allTiles(target: MatmulTarget): Tile[] {
  return ratedTiles(target).map(({ tile }) => tile);
}

/** Bytes of workgroup memory that a tile may take unless the GPU says more. */
const LEAST_MEMORY = 32 << 10;

function ratedTiles(
  { software, half = false, memory = LEAST_MEMORY }: MatmulTarget,
): readonly RatedTile[] {
  const tiles = software ? SOFTWARE_TILES : half ? HALF_TILES : FLOAT_TILES;
  return tiles.filter(({ tile }) => workgroupBytes(tile, half) <= memory);
}

/** Elements of the 16-byte words that a tile is staged in. */
export function wordElements(half: boolean): number {
  return half ? 8 : 4;
}

/** Words of a staged tile at one value of k, a few more than used so that stores meet no bank conflicts. */
export function wordsAcross({ blockM, blockN, blockK }: Tile, half: boolean): number {
  // Eight neighbouring threads store for all groups of four k, side by side, and as many words as that leaves.
  const apart = Math.max(1, 32 / blockK), used = (blockM + blockN) / wordElements(half);
  return used + (((apart - used) % 8) + 8) % 8;
}

/** Bytes of workgroup memory of a tile. */
export function workgroupBytes(tile: Tile, half: boolean): number {
  return tile.direct ? 0 : tile.blockK * wordsAcross(tile, half) * 16;
}

/** Threads of a workgroup. */
export function workgroupThreads({ blockM, blockN, threadM, threadN }: Tile): number {
  return (blockM / threadM) * (blockN / threadN);
}

/** Parts that K is cut into, each of `perSplit` values but the last. */
export function cut(
  k: number,
  { blockK, splits, direct }: Pick<MatmulGeometry, "blockK" | "splits" | "direct">,
): { perSplit: number; parts: number } {
  if (direct) return { perSplit: k, parts: 1 };
  const perSplit = Math.ceil(Math.ceil(k / splits) / blockK) * blockK;
  return { perSplit, parts: Math.ceil(k / perSplit) };
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
  const { software, half = false, memory, slots } = target;
  const key = `${m},${n},${k},${software},${half},${memory},${slots}`;
  let geometry = chosen.get(key);
  if (geometry === undefined) {
    geometry = software ? chooseDirect(m, n) : chooseStaged(m, n, k, target);
    chosen.set(key, geometry);
  }
  return geometry;
}

/** Choices made so far: a training step asks thousands of times for a few of them. */
const chosen = new Map<string, MatmulGeometry>();

function chooseDirect(m: number, n: number): MatmulGeometry {
  let best: MatmulGeometry | undefined, most = -1;
  for (const { tile, speed } of SOFTWARE_TILES) {
    // A weight's gradient (`tn`) reads its rows in fours, and has at least that many.
    if (tile.threadM < 4 && m >= 4) continue;
    const whole = Math.ceil(m / tile.blockM) * tile.blockM * Math.ceil(n / tile.blockN) *
      tile.blockN;
    const score = speed * m * n / whole;
    if (score > most) [best, most] = [{ ...tile, splits: 1 }, score];
  }
  return best!;
}

function chooseStaged(m: number, n: number, k: number, target: MatmulTarget): MatmulGeometry {
  const { slots } = target;
  const byMemory = slots ?? Math.floor(SPLIT_BYTES / (m * n * 4));
  const most = Math.max(1, Math.min(byMemory, Math.floor(k / LEAST_SPLIT), 32));
  let best: MatmulGeometry | undefined, least = Infinity;
  const tiles = ratedTiles(target);
  for (const rated of tiles) {
    for (let splits = 1; splits <= most; splits++) {
      const geometry = { ...rated.tile, splits };
      const time = seconds(m, n, k, geometry, rated, slots !== undefined) *
        (rated === tiles[0] ? 1 : WORTH);
      if (time < least) [best, least] = [geometry, time];
    }
  }
  return best!;
}

/** Multiprocessors of the GPU that tiles are rated on. */
const MULTIPROCESSORS = 132;
/** Fewest values of K worth a workgroup of its own. */
const LEAST_SPLIT = 256;
/** Values of K that a workgroup could multiply while it waits for its first tiles and stores its results. */
const RAMP = 48;
/** How much better than the first a tile must be, as every other is a program more to compile. */
const WORTH = 1.05;
/** A multiprocessor with a share s of the workgroups it could hold works at s to the power of this. */
const IDLENESS = 0.5;
/** Adding up parts: seconds of a launch, and bytes a second. */
const LAUNCH_SECONDS = 5e-6, SUM_BYTES = 2.5e12;

/** Seconds that a product takes, beside the reading of its operands, which all tiles have in common. */
function seconds(
  m: number,
  n: number,
  k: number,
  geometry: MatmulGeometry,
  { speed, held }: RatedTile,
  addedLater: boolean,
): number {
  const { blockM, blockN } = geometry;
  const { perSplit, parts } = cut(k, geometry);
  // The multiprocessor with the most workgroups is the last. What overhangs the edges costs as much as the rest:
  // threads without rows leave the multiplying to the others, but there are too few of those to keep it busy.
  const most = Math.ceil(Math.ceil(m / blockM) * Math.ceil(n / blockN) * parts / MULTIPROCESSORS);
  const inLast = most % held;
  const rounds = most - inLast + (inLast > 0 ? inLast / (inLast / held) ** IDLENESS : 0);
  const products = rounds * blockM * blockN * (perSplit + RAMP) * MULTIPROCESSORS;
  const time = 2 * products / (speed * 1e12);
  if (parts === 1) return time;
  return time + (parts + 1) * m * n * 4 / SUM_BYTES + (addedLater ? 0 : LAUNCH_SECONDS);
}
