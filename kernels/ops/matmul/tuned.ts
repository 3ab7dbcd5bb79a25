/**
 * Tiles that `lorikeet bench tune` measured on this GPU and wrote to a file. Products that were measured take them;
 * all others take the tiles that tiled_geometry.ts predicts.
 *
 * @module
 */
import { z } from "zod";
import { UserError } from "../../errors.ts";
import { regularFileSize } from "../../regular_file.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { environment } from "../../gpu/providers/environment.ts";
import type { Dtype } from "../../gpu/tensor.ts";
import type { Float } from "../numerics.ts";
import {
  allTiles,
  type MatmulGeometry,
  matmulGeometry,
  type MatmulTarget,
  mostSplits,
  type Tile,
} from "./tiled_geometry.ts";
import type { Orientation } from "./orientation.ts";
import { isKind, weightKind } from "../weights/kinds.ts";

/** A product that tiles are chosen for. */
export interface AskedProduct {
  orientation: Orientation;
  a: Dtype;
  /** The kind of B's weights. */
  b: string;
  c: Dtype;
  m: number;
  n: number;
  k: number;
  /** As {@linkcode MatmulTarget}'s. */
  operands: Float;
  maxSplits?: number;
}

/** Products whose rows fill equally many steps of so many rows share their tiles. */
export const TUNED_STEP = 8;
/** Rows of tokens beyond which products fill any tiles, so that nothing is measured. */
export const MOST_TUNED_ROWS = 512;

/** Rows of tokens of a product. */
export function tokensOf({ orientation, m, k }: AskedProduct): number {
  return orientation === "tn" ? k : m;
}

/** The class of products that share their tiles, in words; undefined where nothing is measured. */
export function productClass(product: AskedProduct): string | undefined {
  const { orientation, a, b, m, n, k, operands, maxSplits } = product, tokens = tokensOf(product);
  if (tokens > MOST_TUNED_ROWS) return undefined;
  const rows = Math.ceil(tokens / TUNED_STEP) * TUNED_STEP;
  const sizes = orientation === "tn" ? [m, n, rows] : [rows, n, k];
  const kind = operands === "f16" ? F16_MARK : "", splitK = maxSplits === undefined ? "" : " parts";
  return `${orientation} ${a} ${b}${kind} ${sizes.join("×")}${splitK}`;
}

const F16_MARK = " half";

const size = z.int().min(1);
/** blockM, blockN, blockK, threadM, threadN, splits. */
const tileSchema = z.tuple([size, size, size, size, size, size]);

const fileSchema = z.strictObject({
  /** Measured tiles by GPU, then by {@linkcode productClass}. */
  tiles: z.record(z.string(), z.record(z.string(), tileSchema)),
});

/** What a file of tiles holds. */
export type TilesFile = z.output<typeof fileSchema>;
/** A file that holds none. */
export const NO_TILES: TilesFile = { tiles: {} };

/** A GPU in a file of tiles: each WebGPU compiles programs in its own way. */
export function tilesKey(gpu: { name: string; provider: string }): string {
  return `${gpu.name} (${gpu.provider})`;
}

/** A file of tiles is smaller, however many GPUs it is for. */
const MOST_BYTES = 10_000_000;

/** @throws {UserError} where the file is there and can't be read, or holds something else. */
export function readTiles(path: string): TilesFile {
  let json: unknown;
  try {
    const size = regularFileSize(path);
    if (size > MOST_BYTES) throw new UserError(`it has ${size} bytes`);
    json = JSON.parse(Deno.readTextFileSync(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return NO_TILES;
    const { message } = error as Error;
    throw new UserError(`file ${path} of measured tiles can't be read (${message}); ${REMEDY}`);
  }
  const parsed = fileSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [{ path: place, message }] = parsed.error.issues;
  const where = place.length === 0 ? "" : ` at ${place.join(", ")}`;
  throw new UserError(`file ${path} of measured tiles is damaged${where}: ${message}; ${REMEDY}`);
}

const REMEDY = "remove it, or name another with LORIKEET_TILES";

/** A geometry as a file has it. */
export function tileNumbers(geometry: MatmulGeometry): z.output<typeof tileSchema> {
  const { blockM, blockN, blockK, threadM, threadN, splits } = geometry;
  return [blockM, blockN, blockK, threadM, threadN, splits];
}

function isSame(a: Tile, b: Tile): boolean {
  return (["blockM", "blockN", "blockK", "threadM", "threadN"] as const)
    .every((key) => a[key] === b[key]);
}

/** The tiles of every product on one GPU. */
export class TileChoice {
  readonly #target: MatmulTarget;
  readonly #measured = new Map<string, MatmulGeometry>();
  /** Called with every product that tiles are chosen for. */
  listener?: (product: AskedProduct) => void;

  /** @param measured Tiles of this GPU. Those that this version no longer has are left out. */
  constructor(
    target: Pick<MatmulTarget, "software" | "memory" | "rates">,
    measured: TilesFile["tiles"][string] = {},
  ) {
    this.#target = target;
    for (const [name, numbers] of Object.entries(measured)) {
      const [blockM, blockN, blockK, threadM, threadN, splits] = numbers;
      const stored: Tile = { blockM, blockN, blockK, threadM, threadN };
      const [orientation, , b] = name.split(" ");
      const operands = name.includes(F16_MARK) ? "f16" : "f32";
      if (!isKind(b)) continue;
      const asked = { orientation: orientation as Orientation, b, operands } as const;
      const tile = allTiles(this.targetOf(asked)).find((tile) => isSame(tile, stored));
      if (tile !== undefined) this.#measured.set(name, { ...tile, splits });
    }
  }

  /** Products whose tiles were measured. */
  get measured(): number {
    return this.#measured.size;
  }

  /** What tiled_geometry.ts takes besides a product's sizes. */
  targetOf(
    { orientation, b, operands, maxSplits }: Pick<
      AskedProduct,
      "orientation" | "b" | "operands" | "maxSplits"
    >,
  ): MatmulTarget {
    const { sharedBytes: tables } = weightKind(b);
    return { ...this.#target, orientation, operands, tables, maxSplits };
  }

  /** The tiles of a product. */
  of(product: AskedProduct): MatmulGeometry {
    this.listener?.(product);
    const name = this.#measured.size === 0 ? undefined : productClass(product);
    const measured = name === undefined ? undefined : this.#measured.get(name);
    if (measured === undefined) {
      const { m, n, k } = product;
      return matmulGeometry(m, n, k, this.targetOf(product));
    }
    const { m, n, maxSplits } = product;
    return { ...measured, splits: Math.min(measured.splits, mostSplits(m, n, maxSplits)) };
  }
}

const choices = new WeakMap<Gpu, TileChoice>();

/** Makes products on a GPU take the tiles that a file holds for it. */
export function useTiles(gpu: Gpu, { tiles }: TilesFile): TileChoice {
  const { software, workgroupBytes: memory } = gpu.profile;
  const choice = new TileChoice({ software, memory, rates: gpu.profile }, tiles[tilesKey(gpu)]);
  choices.set(gpu, choice);
  return choice;
}

/**
 * The tiles of products on a GPU: without {@linkcode useTiles} those of the file that the variable LORIKEET_TILES
 * names, where it does.
 *
 * @throws {UserError} as {@linkcode readTiles} does.
 */
export function tilesOf(gpu: Gpu): TileChoice {
  const known = choices.get(gpu);
  if (known !== undefined) return known;
  const path = environment("LORIKEET_TILES");
  return useTiles(gpu, path === undefined ? NO_TILES : readTiles(path));
}

/**
 * Why a GPU's provider was taken, and whether its products take measured tiles, in a few words.
 *
 * @throws as {@linkcode tilesOf} does.
 */
export function reasonOf(gpu: Gpu): string {
  return tilesOf(gpu).measured > 0 ? `${gpu.reason}; measured tiles` : gpu.reason;
}
