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
}

/** Multiprocessors of the GPU that tiles are rated on (an H100), and the threads each runs at once. */
const MULTIPROCESSORS = 132, RESIDENT_THREADS = 512;
/** Bytes of partial results that split sums may use. */
export const SPLIT_BYTES = 1 << 24;
/** Fewest values of K worth a workgroup of its own. */
const LEAST_SPLIT = 256;

/** A geometry without its splits. */
export type Tile = Omit<MatmulGeometry, "splits">;

interface RatedTile {
  tile: Tile;
  /** Relative speed on whole tiles of a busy device, measured. */
  speed: number;
}

const rated = (
  speed: number,
  [blockM, blockN, blockK]: [number, number, number],
  [threadM, threadN]: [number, number],
): RatedTile => ({ speed, tile: { blockM, blockN, blockK, threadM, threadN } });

const FLOAT_TILES: readonly RatedTile[] = [
  rated(1.0, [128, 128, 16], [8, 8]),
  rated(0.87, [64, 128, 16], [8, 8]),
  rated(0.85, [128, 64, 16], [8, 8]),
  rated(0.9, [64, 64, 16], [8, 8]),
  rated(0.7, [32, 128, 16], [4, 8]),
  rated(0.45, [64, 16, 32], [4, 4]),
  rated(0.45, [16, 64, 32], [4, 4]),
];

const HALF_TILES: readonly RatedTile[] = [
  rated(1.0, [64, 128, 32], [8, 8]),
  rated(0.96, [64, 64, 32], [8, 8]),
  rated(0.92, [128, 128, 32], [8, 8]),
  rated(0.8, [32, 128, 32], [8, 8]),
  rated(0.45, [32, 32, 32], [8, 8]),
];

const direct = (speed: number, block: [number, number], thread: [number, number]): RatedTile => {
  const { tile } = rated(speed, [...block, 4], thread);
  return { speed, tile: { ...tile, direct: true } };
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

function ratedTiles({ software, half }: MatmulTarget): readonly RatedTile[] {
  return software ? SOFTWARE_TILES : half ? HALF_TILES : FLOAT_TILES;
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

/** Numbers of workgroups that may share a tile of results. */
function possibleSplits(k: number, byMemory: number): number[] {
  const byDepth = Math.floor(k / LEAST_SPLIT);
  const most = Math.max(1, Math.min(byDepth, byMemory, 32));
  return Array.from({ length: most }, (_, i) => i + 1);
}

/** Share of a GPU's time that these workgroups use: the last wave of them may leave it half empty. */
function filling(tile: Tile, workgroups: number): number {
  const atOnce = MULTIPROCESSORS * Math.floor(RESIDENT_THREADS / workgroupThreads(tile));
  return workgroups / (Math.ceil(workgroups / atOnce) * atOnce);
}

/** Writing and adding up partial results costs about as much as this many values of k each. */
const SPLIT_COST = 40;

/**
 * The tiles for C `[m, n]` = A·B with depth k: the tile whose speed on whole tiles, times the share of
 * them that holds results, times how well they fill the GPU, is highest.
 *
 * @param most Parts that K may be cut into.
 */
export function matmulGeometry(
  m: number,
  n: number,
  k: number,
  { software, half = false }: MatmulTarget,
  most = Math.floor(SPLIT_BYTES / (m * n * 4)),
): MatmulGeometry {
  const key = `${m},${n},${k},${software},${half},${most}`;
  let geometry = chosen.get(key);
  if (geometry === undefined) chosen.set(key, geometry = choose(m, n, k, { software, half }, most));
  return geometry;
}

/** Choices made so far: a training step asks thousands of times for a few of them. */
const chosen = new Map<string, MatmulGeometry>();

function choose(
  m: number,
  n: number,
  k: number,
  target: MatmulTarget,
  mostSplits: number,
): MatmulGeometry {
  const { software } = target;
  let best: MatmulGeometry | undefined, bestScore = -1;
  for (const { tile, speed } of ratedTiles(target)) {
    // A weight's gradient (`tn`) reads its rows in fours, and has at least that many.
    if (tile.threadM < 4 && m >= 4) continue;
    const tiles = [Math.ceil(m / tile.blockM), Math.ceil(n / tile.blockN)];
    const useful = (m * n) / (tiles[0] * tile.blockM * tiles[1] * tile.blockN);
    for (const splits of software ? [1] : possibleSplits(k, mostSplits)) {
      const fill = software ? 1 : filling(tile, tiles[0] * tiles[1] * splits);
      const overhead = splits === 1 ? 1 : k / (k + SPLIT_COST * splits);
      const score = speed * useful * fill * overhead;
      if (score > bestScore) [best, bestScore] = [{ ...tile, splits }, score];
    }
  }
  return best!;
}
